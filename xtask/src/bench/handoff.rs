//! `cargo xtask bench handoff`: how soon connections reach the kernel, what that costs
//! the daemon, how many of those get there whose clients talk at once, and how long
//! streams that never pause stand still.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use lb_tests::client::{Client, ask, receive};
use lb_tests::counters::Counters;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;
use lb_tests::until::{until, when};

use super::numbers::reached;
use super::{flood, prepare, processor};
use crate::shell::say;

/// What a client says right behind its handshake, and what it says afterwards, one
/// message when the last has come back.
const AT_ONCE: [&str; 3] = ["one", "two", "three"];
const AFTERWARDS: usize = 20;
/// What an idle connection is to reach, in milliseconds: median and 99th percentile.
const TO_REACH: [(f64, f64); 2] = [(0.5, 5.0), (0.99, 50.0)];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections are opened one after the other and left alone.
    #[arg(long, default_value_t = 2_000)]
    idle: usize,
    /// How many are opened whose clients talk at once.
    #[arg(long, default_value_t = 20_000)]
    talking: usize,
    /// How many of those there are at a time.
    #[arg(long, default_value_t = 100)]
    at_once: usize,
    /// How many times three connections whose streams never pause are opened.
    #[arg(long, default_value_t = 50)]
    floods: usize,
}

/// Measures everything and prints it.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    runtime.block_on(async {
        idle(options.idle).await?;
        talking(options.talking, options.at_once).await?;
        flood::run(options.floods).await
    })
}

/// A lab with targets and the daemon, and a client's view of it.
struct Scene<'lab> {
    lab: &'lab Lab,
    client: Client<'lab>,
    daemon: Daemon<'lab>,
    _targets: Targets,
}

impl<'lab> Scene<'lab> {
    async fn set(lab: &'lab Lab, mode: &'static str) -> Result<Self> {
        let targets = Targets::start(lab)?;
        let mut daemon = Daemon::start(lab, &Config::new(lab, mode)).await?;
        daemon.hide_log();
        Ok(Self {
            lab,
            client: Client::new(&lab.client, lab.front()),
            daemon,
            _targets: targets,
        })
    }

    async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(self.daemon.admin.get("/metrics").await?.body))
    }

    /// Processor time of the daemon, in microseconds.
    fn cpu(&self) -> Result<f64> {
        Ok(processor::time_of(self.daemon.pid())?.as_secs_f64() * 1e6)
    }
}

async fn idle(count: usize) -> Result<()> {
    say(format!("{count} idle connections, relayed for good"));
    let lab = Lab::new()?;
    let relayed = open_idle(&Scene::set(&lab, "off").await?, count).await?;
    say(format!("{count} idle connections, handed off"));
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, "tc").await?;
    let handed_off = open_idle(&scene, count).await?;
    let metrics = scene.metrics().await?;
    println!("\n{count} idle connections, from the 101 to the kernel");
    for (share, goal) in TO_REACH {
        let took = metrics.quantile("handoff_duration_seconds", share)? * 1e3;
        let reached = reached(took <= goal);
        println!(
            "    {:>4} of 100: {took:.2} ms; {goal} ms to reach: {reached}",
            share * 100.0
        );
    }
    println!(
        "    the daemon's processor time for a connection: {handed_off:.0} us; \
         {relayed:.0} us of it without a fast path"
    );
    Ok(())
}

/// Opens connections and leaves them alone; the daemon's time for each, in
/// microseconds.
async fn open_idle(scene: &Scene<'_>, count: usize) -> Result<f64> {
    let before = scene.cpu()?;
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(scene.client.raw("/ws", None).await?);
    }
    let settled = async || {
        let metrics = scene.metrics().await?;
        let decided = metrics.sum("handoffs_total", |labels| !labels.contains("not_now"));
        when(decided as usize == count, || {
            format!("{decided} are decided")
        })
    };
    until(
        "every connection is where it stays",
        Duration::from_secs(30),
        settled,
    )
    .await?;
    Ok((scene.cpu()? - before) / count as f64)
}

async fn talking(count: usize, at_once: usize) -> Result<()> {
    say(format!(
        "{count} connections that talk at once, {at_once} at a time"
    ));
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, "tc").await?;
    let start = Instant::now();
    let left = Cell::new(count);
    try_join_all((0..at_once).map(|_| talk_on(&scene.client, &left))).await?;
    let took = start.elapsed().as_secs_f64();
    let metrics = scene.metrics().await?;
    let committed = metrics.sum("handoffs_total", |labels| labels.contains("\"committed\""));
    println!("\n{count} connections that talk at once, {at_once} at a time, {took:.0} s");
    println!("    handed off: {:.1} %", committed * 100.0 / count as f64);
    for share in [0.5, 0.99] {
        let took = metrics.quantile("handoff_duration_seconds", share)? * 1e3;
        println!(
            "    from the 101 to the kernel, {} of 100: {took:.2} ms",
            share * 100.0
        );
    }
    println!(
        "    attempts: {}",
        metrics.labelled("handoffs_total").join(", ")
    );
    for (name, namespace) in [
        ("clients", &scene.lab.client),
        ("balancer", &scene.lab.balancer),
    ]
    .into_iter()
    .chain(scene.lab.targets.iter().map(|target| ("a target", target)))
    {
        let counters = Counters::read(namespace)?;
        let (out, again) = (
            counters.get("Tcp.OutSegs")?,
            counters.get("Tcp.RetransSegs")?,
        );
        println!("    segments sent by {name}: {out}, {again} of them again");
    }
    Ok(())
}

/// One connection after the other, as long as some are left.
async fn talk_on(client: &Client<'_>, left: &Cell<usize>) -> Result<()> {
    while let Some(less) = left.get().checked_sub(1) {
        left.set(less);
        talk(client).await?;
    }
    Ok(())
}

async fn talk(client: &Client<'_>) -> Result<()> {
    let mut socket = client.eager("/ws", &AT_ONCE).await?;
    for text in AT_ONCE {
        ensure!(
            receive(&mut socket).await?.to_text()? == text,
            "another message"
        );
    }
    for _ in 0..AFTERWARDS {
        ensure!(
            ask(&mut socket, "word").await?.to_text()? == "word",
            "another message"
        );
    }
    Ok(socket.close(None).await?)
}

/// The text of `/metrics`.
struct Metrics(String);

impl Metrics {
    /// Labels and values of one metric.
    fn samples(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let prefix = format!("limpet_{name}{{");
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(&prefix)?.rsplit_once("} ")?;
            Some((labels, value.parse().ok()?))
        })
    }

    fn sum(&self, name: &str, of: impl Fn(&str) -> bool) -> f64 {
        let those = self.samples(name).filter(|(labels, _)| of(labels));
        those.map(|(_, value)| value).sum()
    }

    fn labelled(&self, name: &str) -> Vec<String> {
        let all = self.samples(name);
        all.map(|(labels, value)| format!("{labels} {value}"))
            .collect()
    }

    /// A quantile of a histogram, as straight lines through its buckets have it.
    fn quantile(&self, name: &str, share: f64) -> Result<f64> {
        let mut buckets = Vec::new();
        for (labels, count) in self.samples(&format!("{name}_bucket")) {
            let bound = labels.strip_prefix("le=\"").context("no bound")?;
            let bound = bound.trim_end_matches('"');
            buckets.push((bound.parse::<f64>().unwrap_or(f64::INFINITY), count));
        }
        let wanted = buckets.last().context("no histogram")?.1 * share;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below {
                return Ok(from + (bound - from) * (wanted - below) / (count - below));
            }
            (from, below) = (bound, count);
        }
        Ok(from)
    }
}
