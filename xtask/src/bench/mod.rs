//! `cargo xtask bench`: measurements, not tests.

mod checks;
mod connection;
mod contender;
mod echo;
mod flood;
mod generator;
mod handoff;
mod http;
mod idle;
mod numbers;
mod pick;
mod poller;
mod processor;
mod reconnects;
mod server;
mod soak;
mod table;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Subcommand;
use tokio::runtime::{self, Runtime};

use crate::{build, install, shell, test, workspace};

#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// Small messages there and back: plain forwarding, Limpet in every mode, HAProxy,
    /// nginx.
    Echo(echo::Options),
    /// The same with messages of 64 KiB.
    Bulk(echo::Options),
    /// A gigabyte of checked streams across the handoff over each of several bad paths.
    Soak(soak::Options),
    /// The flow table with a million flows: cost of a packet, memory, listing.
    Table(table::Options),
    /// Handoff: how soon connections reach the kernel, and at what cost.
    Handoff(handoff::Options),
    /// Handoff of streams that never pause, of clients far away.
    Distance(flood::Options),
    /// Requests: http and https, HTTP/1.1 and HTTP/2, kept and new connections: Limpet,
    /// HAProxy, nginx.
    Http(http::Options),
    /// What asks by HTTP/1.1, started by that in the client's namespace.
    #[command(hide = true)]
    HttpCaller(http::caller::Options),
    /// Memory of an idle WebSocket over TLS: Limpet, HAProxy, nginx.
    Idle(idle::Options),
    /// What opens them, started by that in the client's namespace.
    #[command(hide = true)]
    IdleCaller(idle::caller::Options),
    /// Stickiness: cost of a cookie and of a pick, and of both to requests.
    Pick(pick::Options),
    /// A thousand health-checked targets: what they cost the daemon, and requests beside
    /// them.
    Checks(checks::Options),
    /// Ten thousand WebSockets, and targets that leave: how the reconnects spread.
    Reconnects(reconnects::Options),
    /// The load generator, started by those in the client's namespace.
    #[command(hide = true)]
    Generator(generator::Options),
    /// The echo server, started by those in a target's namespace.
    #[command(hide = true)]
    Server {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// A byte that is said first on each connection.
        #[arg(long)]
        greeting: Option<u8>,
    },
}

/// Runs one.
pub(crate) fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Echo(options) => echo::run(&echo::SMALL, options),
        Benchmark::Bulk(options) => echo::run(&echo::BULK, options),
        Benchmark::Soak(options) => soak::run(options),
        Benchmark::Table(options) => table::run(options),
        Benchmark::Handoff(options) => handoff::run(options),
        Benchmark::Distance(options) => flood::far(options),
        Benchmark::Http(options) => http::run(options),
        Benchmark::HttpCaller(options) => http::caller::run(options),
        Benchmark::Idle(options) => idle::run(options),
        Benchmark::IdleCaller(options) => idle::caller::run(options),
        Benchmark::Pick(options) => pick::run(options),
        Benchmark::Generator(options) => generator::run(options),
        Benchmark::Checks(options) => checks::run(options),
        Benchmark::Reconnects(options) => reconnects::run(options),
        Benchmark::Server { listen, greeting } => server::run(*listen, *greeting),
    }
}

/// Makes ready for measuring in a lab: its tools, the daemon as users get it, and the
/// runtime that drives both.
fn prepare() -> Result<Runtime> {
    shell::require_root(
        "bench",
        "it makes network namespaces and loads a BPF program",
    )?;
    install::tools(&test::TOOLS)?;
    build::run()?;
    Ok(runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// This program again, optimised, as a benchmark's part in a namespace.
fn own() -> Command {
    let mut command = Command::new(workspace::target().join("release/xtask"));
    command.arg("bench").stdin(Stdio::null());
    command
}
