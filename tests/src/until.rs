//! Waiting for something observable, with a deadline; never just waiting.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Looks again and again until `look` finds what it is for. `Ok(Err(seen))`
/// means "not yet"; what was seen last is in the error when time is up.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let (start, deadline) = (Instant::now(), patient(deadline));
    loop {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(seen) if start.elapsed() > deadline => {
                bail!("not within {deadline:?}: {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// A deadline as it is on this machine: `LIMPET_LAB_PATIENCE` times as long. An emulated
/// one takes many times longer for everything.
pub fn patient(deadline: Duration) -> Duration {
    let times = std::env::var("LIMPET_LAB_PATIENCE").ok();
    deadline * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// What a look answers: found when it holds, else what was seen instead.
pub fn when(holds: bool, seen: impl FnOnce() -> String) -> Result<Result<(), String>> {
    Ok(if holds { Ok(()) } else { Err(seen()) })
}
