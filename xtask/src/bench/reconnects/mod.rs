//! `cargo xtask bench reconnects`: thousands of open WebSockets, and targets that leave:
//! one is deregistered, then another's host dies. How their clients' reconnects spread in
//! time, and whether anybody else noticed.

mod fleet;
mod report;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon, limpet};
use lb_tests::lab::{Lab, TARGETS};
use lb_tests::until::{until, when};

use super::contender::{Other, accepts};
use super::{own, prepare};
use crate::shell::{self, say};
use fleet::Fleet;
use report::Round;

/// From the order until the first connection ends.
const DELAY: Duration = Duration::from_secs(5);
/// A target's host is lost after 30 s without a packet, judged every 10 s at most.
const LOST: Duration = Duration::from_secs(45);
/// What a reconnect and its handoff may take beyond the window.
const SLACK: Duration = Duration::from_secs(30);
/// Handshakes of this many clients, and their handoffs.
const OPEN: Duration = Duration::from_secs(300);
/// Neither hears nor says anything any more.
const SILENCE: &str = "table inet dead { \
                       chain input { type filter hook input priority 0; drop; }; \
                       chain output { type filter hook output priority 0; drop; }; }\n";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many WebSockets are open.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Over how many seconds the ends are spread (`end_window`).
    #[arg(long, default_value_t = 30)]
    window: u64,
}

/// Measures both rounds and prints them.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    // The targets are this program, in its optimised form.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let _targets = start_targets(&lab).await?;
    let mut daemon = Daemon::start(&lab, &config(&lab, options)).await?;
    daemon.hide_log();
    let fleet = Fleet::new(Client::new(&lab.client, lab.front()), options.connections);
    let story = Story {
        lab: &lab,
        daemon: &daemon,
        fleet: &fleet,
        window: Duration::from_secs(options.window),
    };
    tokio::select! {
        () = fleet.live() => Ok(()),
        told = story.tell() => told,
    }
}

async fn start_targets(lab: &Lab) -> Result<Vec<Other>> {
    let mut targets = Vec::new();
    for (number, namespace) in (1..=TARGETS).zip(&lab.targets) {
        let (listen, greeting) = (lab.target(number).to_string(), number.to_string());
        let mut command = own();
        command.args(["server", "--listen", &listen, "--greeting", &greeting]);
        targets.push(Other::start(namespace, &mut command)?);
        accepts(Client::new(&lab.balancer, lab.target(number))).await?;
    }
    Ok(targets)
}

fn config(lab: &Lab, options: &Options) -> Config {
    let mut config = Config::new(lab, "auto");
    // Ten thousand lines of a log are not what is measured.
    config.log_level = "warn";
    config.more.root = format!("end_window = \"{}s\"", options.window);
    config.more.target_group = format!(
        "deregistration_delay = \"{}s\"\non_unhealthy = \"end\"\n\
         health_check = {{ protocol = \"tcp\", interval = \"1s\" }}",
        DELAY.as_secs()
    );
    config
}

struct Story<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon<'a>,
    fleet: &'a Fleet<'a>,
    window: Duration,
}

impl Story<'_> {
    async fn tell(&self) -> Result<()> {
        say(format!("{} WebSockets", self.fleet.len()));
        self.all_in_kernel(OPEN).await?;
        say("target 1 is deregistered");
        let round = Round::begin(self.fleet, 1);
        let address = self.lab.target(1).to_string();
        let done = limpet(self.lab, &["deregister", "chat", &address])?;
        ensure!(done.status.success(), "{done:?}");
        self.end(round, DELAY, "deregistered").await?;
        say("the host of target 2 dies");
        let round = Round::begin(self.fleet, 2);
        let host = self.lab.targets.get(1).context("no target 2")?;
        host.feed(Command::new("nft").args(["-f", "-"]), SILENCE)?;
        self.end(round, LOST, "lost with its host").await
    }

    /// Waits until all have come back, and prints the round also where they have not.
    async fn end(&self, round: Round<'_>, until_it_begins: Duration, how: &str) -> Result<()> {
        let deadline = until_it_begins + self.window + SLACK;
        let begun = Instant::now();
        let back = until("all are back", deadline, async || {
            let missing = round.missing();
            when(missing == 0, || format!("{missing} are missing"))
        })
        .await;
        round.print(how, self.window);
        back?;
        // Who is ended twice, or without need, is so by the end of a second window.
        tokio::time::sleep(deadline.saturating_sub(begun.elapsed())).await;
        self.all_in_kernel(SLACK).await?;
        round.check()
    }

    async fn all_in_kernel(&self, deadline: Duration) -> Result<()> {
        until("all are in the kernel", deadline, async || {
            let flows = self.daemon.admin.metric("limpet_flows").await?;
            let connected = self.fleet.connected();
            let all = self.fleet.len();
            when(connected == all && flows == all as f64, || {
                format!("{connected} connected, {flows} flows")
            })
        })
        .await
    }
}
