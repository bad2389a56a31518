//! HTTP/2 by h2load.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::lab::Lab;

use super::Options;
use super::case::Case;
use crate::bench::numbers::Numbers;

/// Streams of a connection at a time.
const STREAMS: usize = 10;

/// Measures once.
pub(super) fn measure(
    lab: &Lab,
    address: SocketAddr,
    case: &Case,
    cookie: &str,
    options: &Options,
) -> Result<Numbers> {
    let log = lab.run().directory().join("h2load.log");
    let said = lab.client.output(
        Command::new("h2load")
            .args(["--duration", &options.seconds.to_string(), "--threads", "1"])
            .args([
                "--clients",
                &(options.connections / STREAMS).max(1).to_string(),
            ])
            .args(["--max-concurrent-streams", &STREAMS.to_string()])
            .args(["--header", &format!("cookie: {cookie}")])
            .arg(format!("--log-file={}", log.display()))
            .arg(format!("https://{address}{}", case.path)),
    )?;
    // Start, status and time taken of each request, in microseconds.
    let log = fs::read_to_string(log)?;
    let mut times = Vec::new();
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        let status = words.next().context("no status")?;
        ensure!(status == "200", "status {status}: {said}");
        let took = words.next().context("no time")?.parse()?;
        times.push(Duration::from_micros(took));
    }
    ensure!(!times.is_empty(), "nothing was answered: {said}");
    let elapsed = Duration::from_secs(options.seconds.into());
    Ok(Numbers::of(&mut times, elapsed))
}
