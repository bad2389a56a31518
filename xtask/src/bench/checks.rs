//! `cargo xtask bench checks`: what a thousand health-checked targets cost. The daemon's
//! processor time for a check, requests per second and their times beside the checks, and
//! how many checks are open while no target answers.

use std::net::SocketAddr;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::sockets;
use lb_tests::until::{until, when};
use nix::sys::signal::{Signal, kill};
use tokio::time::sleep;

use super::contender::Other;
use super::http::{caller, origin};
use super::numbers::{Numbers, Spread};
use super::{prepare, processor};
use crate::install::{self, Tool};
use crate::shell::{self, say};

const TOOLS: [Tool; 1] = [("nginx", "nginx-light")];
/// Where the checked targets are.
const FIRST_PORT: u16 = 10_000;
/// What is asked for by clients and by checks.
const PATH: &str = "/1k";
/// For as long the daemon is watched with nothing to do but its checks.
const WATCHED: Duration = Duration::from_secs(10);
/// Beside the checks there are to be at least so many of the requests without.
const TO_REACH: f64 = 0.97;
/// A check that is given up on, and how long none is answered, many checks long.
const TIMEOUT: Duration = Duration::from_secs(2);
const SILENT: Duration = Duration::from_secs(12);
/// After a pause all checks are due at once; by then they are through.
const RESUMED: Duration = Duration::from_secs(2);
/// Of all targets, at the daemon's start.
const CHECKED: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many targets are checked, all of them behind one nginx.
    #[arg(long, default_value_t = 1_000)]
    targets: u16,
    /// How often each daemon is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// How many connections ask at once.
    #[arg(long, default_value_t = 50)]
    connections: usize,
}

/// The daemons that take turns: how often each checks the many, if it has them.
const KINDS: [(&str, Option<&str>); 3] = [
    ("no checked targets", None),
    ("checked every 30 s, the default", Some("30s")),
    ("checked every second", Some("1s")),
];

/// Measures everything and prints it.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    install::tools(&TOOLS)?;
    // What generates load must be optimised as well.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let labs = [Lab::new()?, Lab::new()?, Lab::new()?];
    let mut benches = Vec::new();
    for (lab, (name, interval)) in labs.iter().zip(KINDS) {
        benches.push(Bench::set(lab, name, interval, options).await?);
    }
    println!("\n{} checked targets, one daemon", options.targets);
    for bench in &benches {
        say(format!("{}, no requests", bench.name));
        bench.print_cost().await?;
    }
    say("requests beside checks");
    for round in 0..options.rounds {
        for turn in 0..benches.len() {
            // Who is first takes turns too.
            let which = (round + turn) % benches.len();
            if let Some(bench) = benches.get_mut(which) {
                bench.measure(options).await?;
            }
        }
    }
    print_requests(&benches, options);
    if let Some(bench) = benches.last() {
        say("no check is answered any more");
        bench.print_open(options).await?;
    }
    Ok(())
}

/// A daemon in a lab of its own, and what was measured with it.
struct Bench<'lab> {
    name: &'static str,
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    _origin: Other,
    samples: Vec<Numbers>,
}

impl<'lab> Bench<'lab> {
    async fn set(
        lab: &'lab Lab,
        name: &'static str,
        interval: Option<&str>,
        options: &Options,
    ) -> Result<Self> {
        let _origin = origin::start(lab, ports(options)).await?;
        let mut daemon = Daemon::start(lab, &config(lab, interval, options)).await?;
        daemon.hide_log();
        let all = f64::from(options.targets) + 1.0;
        let expected = if interval.is_some() { all } else { 1.0 };
        until("every target is healthy", CHECKED, async || {
            let healthy = daemon.admin.metric("limpet_target_healthy").await?;
            when(healthy == expected, || format!("{healthy} are"))
        })
        .await?;
        let bench = Self {
            name,
            lab,
            daemon,
            _origin,
            samples: Vec::new(),
        };
        bench.pause()?;
        Ok(bench)
    }

    /// Only one of them works at a time: its checks are to disturb none but its own
    /// requests.
    fn pause(&self) -> Result<()> {
        Ok(kill(self.daemon.pid(), Signal::SIGSTOP)?)
    }

    async fn resume(&self) -> Result<()> {
        kill(self.daemon.pid(), Signal::SIGCONT)?;
        sleep(RESUMED).await;
        Ok(())
    }

    async fn checks(&self) -> Result<f64> {
        let checks = self.daemon.admin.metric("limpet_health_checks_total");
        checks.await
    }

    /// The daemon's time while it has nothing else to do.
    async fn print_cost(&self) -> Result<()> {
        self.resume().await?;
        let (checks, time) = (self.checks().await?, processor::time_of(self.daemon.pid())?);
        let begun = Instant::now();
        sleep(WATCHED).await;
        let used = processor::time_of(self.daemon.pid())?.saturating_sub(time);
        let (used, took) = (used.as_secs_f64(), begun.elapsed().as_secs_f64());
        let checks = self.checks().await? - checks;
        self.pause()?;
        println!(
            "    {:<34}{:>6.0} checks/s, {:>5.1} % of a core, {:>4.0} us a check",
            self.name,
            checks / took,
            used * 100.0 / took,
            used * 1e6 / checks.max(1.0)
        );
        Ok(())
    }

    async fn measure(&mut self, options: &Options) -> Result<()> {
        self.resume().await?;
        let asked = caller::Options {
            address: self.lab.front(),
            path: PATH.to_owned(),
            cookie: "none=none".to_owned(),
            connections: options.connections,
            seconds: options.seconds,
            ca: None,
            fresh: false,
            resume: false,
        };
        let numbers = asked.measure(&self.lab.client)?;
        self.samples.push(numbers);
        self.pause()
    }

    /// Checks that are open at a time: not more than there are targets.
    async fn print_open(&self, options: &Options) -> Result<()> {
        self.resume().await?;
        let silence = "table inet dead { chain input { \
                       type filter hook input priority 0; drop; }; }\n";
        let target = self.lab.targets.first().context("no target")?;
        target.feed(Command::new("nft").args(["-f", "-"]), silence)?;
        let (begun, mut most) = (Instant::now(), 0);
        while begun.elapsed() < SILENT {
            sleep(Duration::from_millis(500)).await;
            let sockets = sockets::connections(&self.lab.balancer)?;
            let opening = sockets.iter().filter(|one| one.state == "SYN-SENT");
            most = most.max(opening.count());
        }
        println!(
            "\n    checks open at a time while no target answers for {SILENT:?}: {most} at most"
        );
        let limit = usize::from(options.targets) + 1;
        ensure!(
            most > 0 && most <= limit,
            "checks pile up, or there are none"
        );
        Ok(())
    }
}

fn ports(options: &Options) -> Range<u16> {
    FIRST_PORT..FIRST_PORT.saturating_add(options.targets)
}

fn config(lab: &Lab, interval: Option<&str>, options: &Options) -> Config {
    let mut config = Config {
        targets: vec![lab.target(1)],
        log_level: "warn",
        ..Config::new(lab, "off")
    };
    // Not what is measured.
    config.more.log = "access = { to = \"off\" }".to_owned();
    config.more.target_group = format!("health_check = {{ path = \"{PATH}\" }}");
    if let Some(interval) = interval {
        let ip = lab.target(1).ip();
        let targets = ports(options).map(|port| SocketAddr::new(ip, port));
        let targets =
            targets.map(|address| format!("[[target_group.target]]\naddress = \"{address}\"\n"));
        config.more.tables = format!(
            "[[target_group]]\nname = \"many\"\nhealth_check = {{ path = \"{PATH}\", \
             interval = \"{interval}\", timeout = \"{}s\" }}\n{}",
            TIMEOUT.as_secs(),
            targets.collect::<String>()
        );
    }
    config
}

fn print_requests(benches: &[Bench<'_>], options: &Options) {
    println!(
        "\n{} connections, median (range) of {} rounds",
        options.connections, options.rounds
    );
    println!(
        "    {:<34}{:>26}{:>22}{:>20}",
        "", "requests/s", "p99 us", "ratio"
    );
    let Some(without) = benches.first() else {
        return;
    };
    for bench in benches {
        let column = |value: fn(&Numbers) -> f64| Spread::of(bench.samples.iter().map(value));
        let pairs = bench.samples.iter().zip(&without.samples);
        let ratio = Spread::of(pairs.map(|(with, without)| with.rate / without.rate));
        println!(
            "    {:<34}{:>26}{:>22}{:>8.3} ({:.3}-{:.3})",
            bench.name,
            column(|numbers| numbers.rate),
            column(|numbers| numbers.p99),
            ratio.median,
            ratio.least,
            ratio.most
        );
    }
    println!("    {TO_REACH} to reach beside checks");
}
