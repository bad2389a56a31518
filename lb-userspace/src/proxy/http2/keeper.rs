//! The clock of a connection: without streams it may rest for `idle_timeout`; with
//! streams that are silent its client is asked, as often, whether it is still there.

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, sleep_until, timeout};

use super::conduct::Conduct;

/// What has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// There has been no stream for too long.
    Idle,
    /// A ping was not answered.
    Dead,
}

/// Waits for the end of the client's time.
pub(super) async fn watch(
    conduct: &Conduct,
    mut pings: Option<PingPong>,
    idle_timeout: Duration,
) -> Lapse {
    loop {
        match conduct.rested() {
            Some(since) if since.elapsed() >= idle_timeout => return Lapse::Idle,
            Some(since) => sleep_until(since + idle_timeout).await,
            None => {
                sleep(idle_timeout).await;
                if let Some(pings) = &mut pings
                    && !matches!(
                        timeout(idle_timeout, pings.ping(Ping::opaque())).await,
                        Ok(Ok(_))
                    )
                {
                    return Lapse::Dead;
                }
            }
        }
    }
}
