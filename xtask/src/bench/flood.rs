//! What the handoff does to connections whose streams never pause: how long they stand
//! still, beside connections that stay relayed.

use std::time::Duration;

use anyhow::Result;
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::raw::{FLOOD, Pace, SILENCE};
use lb_tests::scene::Scene;

use super::numbers::{Numbers, reached};
use crate::shell::say;

/// Up, down, both ways.
const KINDS: [[Pace; 2]; 3] = [[FLOOD, SILENCE], [SILENCE, FLOOD], [FLOOD, FLOOD]];
/// Who is not in the kernel by then is counted as left to userspace.
const HANDED_OFF: Duration = Duration::from_secs(10);
/// What every stream goes on by, in bytes, when it is where it belongs, and by when.
const FURTHER: u64 = 2_000_000;
const FURTHER_TAKES: Duration = Duration::from_secs(60);
/// What a stall is to stay under at the 99th percentile, in milliseconds.
const TO_REACH: f64 = 300.0;

/// Measures `rounds` times one connection of each kind.
pub(super) async fn run(rounds: usize) -> Result<()> {
    let count = rounds * KINDS.len();
    say(format!(
        "{count} connections that never pause, relayed for good"
    ));
    let (relayed, _) = measure("off", rounds).await?;
    say(format!("{count} connections that never pause, handed off"));
    let (handed_off, left) = measure("tc", rounds).await?;
    println!("\n{count} connections whose streams never pause: the longest stall of each");
    for (name, stalls) in [("relayed", relayed), ("handed off", handed_off)] {
        println!(
            "    {name}: median {:.0} ms, 99 of 100 within {:.0} ms",
            stalls.p50 / 1e3,
            stalls.p99 / 1e3
        );
    }
    let reached = reached(handed_off.p99 / 1e3 <= TO_REACH);
    println!("    {TO_REACH} ms to reach: {reached}; left to userspace: {left}");
    Ok(())
}

/// The stalls, and how many were not handed off.
async fn measure(mode: &'static str, rounds: usize) -> Result<(Numbers, usize)> {
    let lab = Lab::new()?;
    let mut scene = Scene::set(&lab, &Config::new(&lab, mode)).await?;
    scene.daemon.hide_log();
    let streams = scene.targets.notes.streams.clone();
    let (mut stalls, mut left) = (Vec::new(), 0);
    for _ in 0..rounds {
        for (id, paces) in KINDS.into_iter().enumerate() {
            streams.open_at(&scene.client, id, paces).await?;
        }
        if scene.settled_within(KINDS.len(), HANDED_OFF).await.is_err() {
            let connections = scene.daemon.admin.connections().await?;
            left += connections.iter().filter(|one| !one.in_kernel()).count();
        }
        let before = streams.progress();
        streams.go_further(&before, FURTHER, FURTHER_TAKES).await?;
        scene.streams_end().await?;
        stalls.extend(streams.stalls());
        streams.begin_anew();
        scene.all_gone().await?;
    }
    Ok((Numbers::of(&mut stalls, Duration::from_secs(1)), left))
}
