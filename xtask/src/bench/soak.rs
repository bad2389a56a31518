//! `cargo xtask bench soak`: bulk streams across the handoff over bad paths, far
//! longer than a test may take, beside the same path without a balancer.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::lab::Offloads;
use lb_tests::passage::{Outcome, Passage};

use super::prepare;
use crate::shell::say;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Bytes over each path, both directions together.
    #[arg(long, default_value_t = 1_000_000_000)]
    bytes: u64,
    /// Shares of packets lost at either end, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1, 1.0, 5.0])]
    loss: Vec<f64>,
    /// The fast path's modes.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Mode::Tc, Mode::Xdp])]
    modes: Vec<Mode>,
    /// How long one passage may take, in seconds.
    #[arg(long, default_value_t = 1800)]
    takes: u64,
}

/// A mode of the fast path, with what its packets look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Tc,
    Xdp,
}

/// Carries everything and prints what came of it; an error at the first wrong byte.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    for mode in &options.modes {
        for loss in &options.loss {
            let passage = options.passage(*mode, *loss);
            say(format!(
                "{} MB, {}, {loss} % lost at either end",
                options.bytes / 1_000_000,
                passage.mode
            ));
            let with = runtime.block_on(passage.by_the_balancer())?;
            print("by the balancer", &with);
            let without = runtime
                .block_on(passage.by_a_router())
                .context("without a balancer")?;
            print("by a router", &without);
        }
    }
    Ok(())
}

impl Options {
    fn passage(&self, mode: Mode, loss: f64) -> Passage {
        let (mode, offloads) = match mode {
            Mode::Tc => ("tc", Offloads::Segments),
            Mode::Xdp => ("xdp", Offloads::Xdp),
        };
        Passage {
            mode,
            offloads,
            loss,
            bytes: self.bytes,
            takes: Duration::from_secs(self.takes),
        }
    }
}

fn print(by: &str, outcome: &Outcome) {
    let Outcome {
        complaints,
        retransmitted,
        reordered,
        doubled,
        relayed,
    } = outcome;
    println!(
        "    {by:<16} every byte in its place; {relayed} relayed before the handoff; \
         {retransmitted} segments sent again, {reordered} out of order, {doubled} twice"
    );
    let complaints: Vec<_> = complaints
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("    {:<16} {}", "", complaints.join(", "));
}
