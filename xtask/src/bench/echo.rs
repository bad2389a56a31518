//! `cargo xtask bench echo|bulk`: messages there and back through each contender, in
//! interleaved rounds, so that what the machine does meanwhile hits all alike.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::client::Client;
use lb_tests::lab::Lab;

use super::contender::{ALL, Contender, accepts};
use super::numbers::{Numbers, Spread, reached};
use super::{own, prepare};
use crate::install::{self, Tool};
use crate::shell::{self, say};

/// Those Limpet is compared with.
const TOOLS: [Tool; 2] = [("haproxy", "haproxy"), ("nginx", "nginx-light")];

/// What is sent, and what the kernel path is to reach with it.
pub(super) struct Load {
    /// Bytes of a message.
    size: usize,
    /// The least ratio of Limpet's rate over TC to another's.
    to_reach: &'static [(Contender, f64)],
}

/// A chat message.
pub(super) const SMALL: Load = Load {
    size: 64,
    to_reach: &[(Contender::Forwarding, 1.0), (Contender::Haproxy, 1.8)],
};
/// As much as a proxy's buffer takes at once.
pub(super) const BULK: Load = Load {
    size: 64 * 1024,
    to_reach: &[(Contender::Forwarding, 0.95)],
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each contender is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many connections echo at once.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Measure only these (default: all).
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contender>,
}

impl Options {
    fn contenders(&self) -> impl Iterator<Item = Contender> {
        let all = ALL.into_iter();
        all.filter(|one| self.only.is_empty() || self.only.contains(one))
    }
}

struct Sample {
    contender: Contender,
    numbers: Numbers,
}

/// Measures everything and prints the table.
pub(super) fn run(load: &Load, options: &Options) -> Result<()> {
    let runtime = prepare()?;
    install::tools(&TOOLS)?;
    // What generates load must be optimised as well.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    let samples = runtime.block_on(measure_all(load.size, options))?;
    print_table(&samples, load.size, options);
    print_goals(&samples, load);
    Ok(())
}

async fn measure_all(size: usize, options: &Options) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        say(format!("round {round} of {}", options.rounds));
        for contender in options.contenders() {
            let numbers = measure(contender, size, options)
                .await
                .with_context(|| contender.name())?;
            println!("    {:<32}{:>9.0}/s", contender.name(), numbers.rate);
            samples.push(Sample { contender, numbers });
        }
    }
    Ok(samples)
}

async fn measure(contender: Contender, size: usize, options: &Options) -> Result<Numbers> {
    let lab = Lab::with(contender.offloads())?;
    let listen = lab.target(1).to_string();
    // Ended with the lab.
    lab.targets[0].start(own().args(["server", "--listen", &listen]))?;
    accepts(Client::new(&lab.balancer, lab.target(1))).await?;
    let running = contender.start(&lab).await?;
    let mut generator = lab.client.start(
        own()
            .args([
                "generator",
                "--address",
                &contender.address(&lab).to_string(),
            ])
            .args(["--size", &size.to_string()])
            .args(["--connections", &options.connections.to_string()])
            .args(["--seconds", &options.seconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let mut lines = lines(&mut generator)?;
    lines.next().context("the generator did not connect")??;
    running.settled(options.connections).await?;
    generator
        .stdin
        .take()
        .context("stdin")?
        .write_all(b"go\n")?;
    let numbers = lines
        .next()
        .context("the generator said nothing")??
        .parse()?;
    generator.wait()?;
    Ok(numbers)
}

fn lines(child: &mut Child) -> Result<std::io::Lines<impl BufRead + use<>>> {
    Ok(BufReader::new(child.stdout.take().context("stdout")?).lines())
}

fn print_table(samples: &[Sample], size: usize, options: &Options) {
    println!(
        "\n{size}-byte echo, {} connections, median (range) of {} rounds",
        options.connections, options.rounds
    );
    println!(
        "{:<32}{:>28}{:>20}{:>22}",
        "", "messages/s", "p50 us", "p99 us"
    );
    for contender in options.contenders() {
        let column = |value: fn(&Numbers) -> f64| spread(samples, contender, value);
        println!(
            "{:<32}{:>28}{:>20}{:>22}",
            contender.name(),
            column(|numbers| numbers.rate),
            column(|numbers| numbers.p50),
            column(|numbers| numbers.p99)
        );
    }
}

/// Ratios within one run, of those that were measured.
fn print_goals(samples: &[Sample], load: &Load) {
    println!();
    let rate = |contender| spread(samples, contender, |numbers| numbers.rate).median;
    for (other, goal) in load.to_reach {
        let ratio = rate(Contender::LimpetTc) / rate(*other);
        if !ratio.is_normal() {
            continue;
        }
        let reached = reached(ratio >= *goal);
        println!(
            "{} bytes, {} against {}: {ratio:.2} times; {goal} to reach: {reached}",
            load.size,
            Contender::LimpetTc.name(),
            other.name()
        );
    }
}

fn spread(samples: &[Sample], of: Contender, value: fn(&Numbers) -> f64) -> Spread {
    let those = samples.iter().filter(|sample| sample.contender == of);
    Spread::of(those.map(|sample| value(&sample.numbers)))
}
