//! The verbs of the repository. Each installs what it needs and is missing,
//! says so, and exits non-zero when something it was to show did not happen.

mod bench;
mod build;
mod demo;
mod install;
mod lint;
mod shell;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test, show and measure Limpet.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build target/release/limpet with the kernel program embedded.
    Build,
    /// Run every test, those with network namespaces too (needs root).
    Test(test::Options),
    /// Boot other kernels, and test in them (needs root).
    Vm(vm::Options),
    /// Watch one WebSocket from cookie to kernel to kill -9 (needs root).
    Demo(demo::Options),
    /// Check formatting, lints, documentation and dependencies.
    Lint,
    /// Measure (needs root).
    #[command(subcommand)]
    Bench(bench::Benchmark),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Build => build::run().map(drop),
        Verb::Test(options) => test::run(&options),
        Verb::Vm(options) => vm::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Lint => lint::run(),
        Verb::Bench(benchmark) => bench::run(&benchmark),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
