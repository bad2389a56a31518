//! What the handoff does to connections whose streams never pause: how long they stand
//! still, beside connections that stay relayed; nearby, and over long ways.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use lb_tests::daemon::Config;
use lb_tests::distance::Distance;
use lb_tests::lab::Lab;
use lb_tests::raw::{FLOOD, Pace, SILENCE};
use lb_tests::scene::Scene;

use super::numbers::{Numbers, reached};
use super::prepare;
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

/// Next door.
const NEAR: Way = Way {
    delay: 0,
    loss: 0.0,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many times three connections are opened over each way.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// How long a frame takes between client and balancer, in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 20, 50])]
    delays: Vec<u64>,
    /// Shares of packets lost at either end, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1])]
    loss: Vec<f64>,
}

/// What lies between client and balancer.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Of a frame, in milliseconds.
    delay: u64,
    /// At either end, in percent.
    loss: f64,
}

/// What was seen of all connections over a way.
struct Seen {
    /// The longest stall of each.
    stalls: Numbers,
    left: usize,
    holds: f64,
}

/// Measures `rounds` times one connection of each kind.
pub(super) async fn run(rounds: usize) -> Result<()> {
    let count = rounds * KINDS.len();
    say(format!(
        "{count} connections that never pause, relayed for good"
    ));
    let relayed = measure("off", NEAR, rounds).await?;
    say(format!("{count} connections that never pause, handed off"));
    let handed_off = measure("tc", NEAR, rounds).await?;
    println!("\n{count} connections whose streams never pause: the longest stall of each");
    for (name, stalls) in [
        ("relayed", relayed.stalls),
        ("handed off", handed_off.stalls),
    ] {
        println!(
            "    {name}: median {:.0} ms, 99 of 100 within {:.0} ms",
            stalls.p50 / 1e3,
            stalls.p99 / 1e3
        );
    }
    let reached = reached(handed_off.stalls.p99 / 1e3 <= TO_REACH);
    println!(
        "    {TO_REACH} ms to reach: {reached}; left to userspace: {}",
        handed_off.left
    );
    Ok(())
}

/// The same over each long way.
pub(super) fn far(options: &Options) -> Result<()> {
    let (runtime, rounds) = (prepare()?, options.rounds);
    for delay in &options.delays {
        for loss in &options.loss {
            let way = Way {
                delay: *delay,
                loss: *loss,
            };
            runtime.block_on(over(way, rounds))?;
        }
    }
    Ok(())
}

async fn over(way: Way, rounds: usize) -> Result<()> {
    let Way { delay, loss } = way;
    say(format!(
        "{} connections that never pause, {delay} ms away, {loss} % lost",
        rounds * KINDS.len()
    ));
    for mode in ["off", "tc"] {
        let Seen {
            stalls,
            left,
            holds,
        } = measure(mode, way, rounds).await?;
        println!(
            "    {mode}: the longest stall {:.0} ms in the median, 99 of 100 within {:.0} ms; \
             {left} in userspace after {} s, {holds} holds",
            stalls.p50 / 1e3,
            stalls.p99 / 1e3,
            HANDED_OFF.as_secs()
        );
    }
    Ok(())
}

async fn measure(mode: &'static str, way: Way, rounds: usize) -> Result<Seen> {
    let lab = Lab::new()?;
    let delay = Duration::from_millis(way.delay);
    let _distance = (way.delay > 0)
        .then(|| Distance::to(&lab, 0, delay))
        .transpose()?;
    if way.loss > 0.0 {
        lab.drop_percent(way.loss)?;
    }
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
    let holds = "limpet_handoff_hold_seconds_count";
    Ok(Seen {
        stalls: Numbers::of(&mut stalls, Duration::from_secs(1)),
        left,
        holds: scene.daemon.admin.metric(holds).await?,
    })
}
