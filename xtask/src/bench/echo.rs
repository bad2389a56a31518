//! `cargo xtask bench echo`: messages there and back through each contender, in
//! interleaved rounds, so that what the machine does meanwhile hits all alike.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::client::Client;
use lb_tests::lab::Lab;

use super::contender::{ALL, Contender, accepts};
use super::numbers::{Numbers, Spread};
use crate::install::{self, Tool};
use crate::shell::{self, say};
use crate::{build, test, workspace};

/// Those Limpet is compared with.
const TOOLS: [Tool; 2] = [("haproxy", "haproxy"), ("nginx", "nginx-light")];
/// A chat message, and as much as a proxy's buffer takes at once.
const SIZES: [usize; 2] = [64, 64 * 1024];
/// What the kernel path is to reach, of plain forwarding and of HAProxy.
const TO_REACH: [(Contender, f64); 2] = [(Contender::Forwarding, 1.0), (Contender::Haproxy, 1.8)];

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
    size: usize,
    numbers: Numbers,
}

/// Measures everything and prints the tables.
pub(super) fn run(options: &Options) -> Result<()> {
    shell::require_root(
        "bench",
        "it makes network namespaces and loads a BPF program",
    )?;
    install::tools(&test::TOOLS)?;
    install::tools(&TOOLS)?;
    build::run()?;
    // What generates load must be optimised as well.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let samples = runtime.block_on(measure_all(options))?;
    for size in SIZES {
        print_table(&samples, size, options);
    }
    if options.only.is_empty() {
        print_goals(&samples);
    }
    Ok(())
}

async fn measure_all(options: &Options) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        say(format!("round {round} of {}", options.rounds));
        for contender in options.contenders() {
            for size in SIZES {
                let numbers = measure(contender, size, options)
                    .await
                    .with_context(|| format!("{}, {size} bytes", contender.name()))?;
                println!(
                    "    {:<32}{size:>6} B {:>9.0}/s",
                    contender.name(),
                    numbers.rate
                );
                samples.push(Sample {
                    contender,
                    size,
                    numbers,
                });
            }
        }
    }
    Ok(samples)
}

async fn measure(contender: Contender, size: usize, options: &Options) -> Result<Numbers> {
    let lab = Lab::with(contender.offloads())?;
    let listen = lab.target(1).to_string();
    // Ended with the lab.
    lab.targets[0].start(load().args(["server", "--listen", &listen]))?;
    accepts(Client::new(&lab.balancer, lab.target(1))).await?;
    let running = contender.start(&lab).await?;
    let mut generator = lab.client.start(
        load()
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

fn load() -> Command {
    let mut command = Command::new(generator());
    command.arg("bench").stdin(Stdio::null());
    command
}

fn generator() -> PathBuf {
    workspace::target().join("release/xtask")
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
        let column = |value: fn(&Numbers) -> f64| spread(samples, contender, size, value);
        println!(
            "{:<32}{:>28}{:>20}{:>22}",
            contender.name(),
            column(|numbers| numbers.rate),
            column(|numbers| numbers.p50),
            column(|numbers| numbers.p99)
        );
    }
}

fn print_goals(samples: &[Sample]) {
    println!();
    let rate = |contender| spread(samples, contender, SIZES[0], |numbers| numbers.rate).median;
    for (other, goal) in TO_REACH {
        let ratio = rate(Contender::LimpetTc) / rate(other);
        let reached = if ratio >= goal {
            "reached"
        } else {
            "NOT reached"
        };
        println!(
            "{} bytes, {} against {}: {ratio:.2} times; {goal} to reach: {reached}",
            SIZES[0],
            Contender::LimpetTc.name(),
            other.name()
        );
    }
}

fn spread(samples: &[Sample], of: Contender, size: usize, value: fn(&Numbers) -> f64) -> Spread {
    let those = samples
        .iter()
        .filter(|sample| sample.contender == of && sample.size == size);
    Spread::of(those.map(|sample| value(&sample.numbers)))
}
