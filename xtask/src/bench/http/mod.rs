//! `cargo xtask bench http`: requests through each balancer, in interleaved rounds:
//! HTTP and HTTPS, HTTP/1.1 and HTTP/2, kept and new connections, with its sticky cookie.

mod balancer;
pub(super) mod caller;
mod case;
mod h2load;
pub(super) mod origin;

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::lab::Lab;

use super::numbers::{Numbers, Spread, reached};
use super::prepare;
use crate::install::{self, Tool};
use crate::shell::{self, say};
pub(super) use balancer::{ALL, Balancer};
use case::{CASES, Case, Version};

/// Those Limpet is compared with, what answers them all, and what asks.
pub(super) const TOOLS: [Tool; 4] = [
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
];
/// The least ratio of Limpet's rate to HAProxy's, in each case.
const TO_REACH: f64 = 1.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each balancer is measured in each case.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// How many connections ask at once; by HTTP/2 a tenth of them, ten streams each.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Measure only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

impl Options {
    fn cases(&self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(|case| case.name.contains(&self.only))
    }
}

struct Sample {
    case: &'static str,
    balancer: Balancer,
    numbers: Numbers,
}

/// Measures everything and prints the table.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    install::tools(&TOOLS)?;
    // What generates load must be optimised as well.
    shell::run(shell::cargo().args(["build", "--release", "--package", "xtask"]))?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        say(format!("round {round} of {}", options.rounds));
        for case in options.cases() {
            for balancer in ALL {
                let measured = runtime.block_on(measure(balancer, case, options));
                let numbers = measured.with_context(|| format!("{}, {balancer}", case.name))?;
                println!("    {:<44}{balancer:<10}{:>9.0}/s", case.name, numbers.rate);
                samples.push(Sample {
                    case: case.name,
                    balancer,
                    numbers,
                });
            }
        }
    }
    print_table(&samples, options);
    Ok(())
}

async fn measure(balancer: Balancer, case: &Case, options: &Options) -> Result<Numbers> {
    let lab = Lab::new()?;
    // A new connection for each request takes a new port.
    lab.client
        .sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    let _origin = origin::start(&lab, 0..0).await?;
    let running = balancer.start(&lab).await?;
    let address = running.address(case);
    let cookie = running.cookie(&lab).await?;
    if case.version == Version::Two {
        return h2load::measure(&lab, address, case, &cookie, options);
    }
    let asked = caller::Options {
        address,
        path: case.path.to_owned(),
        cookie,
        connections: options.connections,
        seconds: options.seconds,
        ca: case.tls.then(|| running.certificate().to_owned()),
        fresh: case.fresh,
        resume: case.resume,
    };
    asked.measure(&lab.client)
}

fn print_table(samples: &[Sample], options: &Options) {
    println!(
        "\n{} connections, median (range) of {} rounds",
        options.connections, options.rounds
    );
    println!("{:<56}{:>26}{:>22}", "", "requests/s", "p99 us");
    for case in options.cases() {
        let column = |balancer, value: fn(&Numbers) -> f64| {
            let of = |sample: &&Sample| sample.case == case.name && sample.balancer == balancer;
            Spread::of(
                samples
                    .iter()
                    .filter(of)
                    .map(|sample| value(&sample.numbers)),
            )
        };
        for balancer in ALL {
            let rate = column(balancer, |numbers| numbers.rate);
            let p99 = column(balancer, |numbers| numbers.p99);
            println!("{:<46}{balancer:<10}{rate:>26}{p99:>22}", case.name);
        }
        let rate = |balancer| column(balancer, |numbers| numbers.rate).median;
        let ratio = rate(Balancer::Limpet) / rate(Balancer::Haproxy);
        let reached = reached(ratio >= TO_REACH);
        println!("    {ratio:.2} times HAProxy; {TO_REACH} to reach: {reached}");
    }
}
