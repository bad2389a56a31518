//! `cargo xtask bench idle`: what an idle WebSocket over TLS costs each balancer, which has
//! to stay in userspace.

pub(super) mod caller;
mod memory;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::client::Client;
use lb_tests::lab::Lab;

use super::contender::accepts;
use super::http::{ALL, Balancer, TOOLS};
use super::numbers::{Spread, reached};
use super::{own, prepare};
use crate::install;
use crate::shell::{self, say};
use memory::Memory;

/// Connections before the first look: what a balancer makes once is made.
const WARM: usize = 500;
/// Until what the handshakes needed has been given back.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections are opened between two looks.
    #[arg(long, default_value_t = 4_000)]
    connections: usize,
    /// How often each balancer is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Bytes of one connection.
struct Sample {
    balancer: Balancer,
    own: f64,
    shared: f64,
}

/// Measures everything and prints the table.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    install::tools(&TOOLS)?;
    // What opens them must be optimised as well.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        say(format!("round {round} of {}", options.rounds));
        for balancer in ALL {
            let sample = runtime.block_on(measure(balancer, options.connections));
            let sample = sample.with_context(|| balancer.to_string())?;
            println!("    {balancer:<10}{:>9.0} bytes", sample.own);
            samples.push(sample);
        }
    }
    print_table(&samples, options);
    Ok(())
}

async fn measure(balancer: Balancer, connections: usize) -> Result<Sample> {
    let lab = Lab::new()?;
    let listen = lab.target(1).to_string();
    // Ended with the lab.
    lab.targets[0].start(own().args(["server", "--listen", &listen]))?;
    accepts(Client::new(&lab.balancer, lab.target(1))).await?;
    let running = balancer.start(&lab).await?;
    let mut caller = Caller::start(&lab, &running.tls_address(), running.certificate())?;
    caller.open(WARM)?;
    let before = settled(running.process())?;
    caller.open(connections)?;
    let after = settled(running.process())?;
    let each =
        |of: fn(&Memory) -> u64| of(&after).saturating_sub(of(&before)) as f64 / connections as f64;
    Ok(Sample {
        balancer,
        own: each(|memory| memory.processes),
        shared: each(|memory| memory.kernel),
    })
}

fn settled(process: u32) -> Result<Memory> {
    std::thread::sleep(SETTLE);
    Memory::now(process)
}

/// What opens the connections and keeps them.
struct Caller {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Caller {
    fn start(lab: &Lab, address: &str, certificate: &std::path::Path) -> Result<Self> {
        let mut command = own();
        command
            .args(["idle-caller", "--address", address])
            .arg("--ca")
            .arg(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = lab.client.start(&mut command)?;
        let stdout = child.stdout.take().context("stdout")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Opens so many more.
    fn open(&mut self, count: usize) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin")?;
        writeln!(stdin, "{count}")?;
        self.lines.next().context("not all were opened")??;
        Ok(())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The lab's end would end it too; this is only sooner.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn print_table(samples: &[Sample], options: &Options) {
    println!(
        "\nbytes of an idle WebSocket over TLS, {} of them, median (range) of {} rounds",
        options.connections, options.rounds
    );
    println!(
        "{:<12}{:>26}{:>32}",
        "", "the balancer's", "all slabs of the kernel"
    );
    let column = |balancer, value: fn(&Sample) -> f64| {
        let those = samples.iter().filter(|sample| sample.balancer == balancer);
        Spread::of(those.map(value))
    };
    for balancer in ALL {
        let own = column(balancer, |sample| sample.own);
        let shared = column(balancer, |sample| sample.shared);
        println!("{balancer:<12}{own:>26}{shared:>32}");
    }
    let own = |balancer| column(balancer, |sample| sample.own).median;
    for other in [Balancer::Haproxy, Balancer::Nginx] {
        let reached = reached(own(Balancer::Limpet) < own(other));
        let ratio = own(Balancer::Limpet) / own(other);
        println!("    {ratio:.2} times {other}; less than 1 to reach: {reached}");
    }
}
