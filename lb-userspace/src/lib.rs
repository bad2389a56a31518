//! Limpet: a sticky load balancer for WebSockets.
//!
//! From top to bottom: `cli` (the command), `config` (a checked configuration),
//! `daemon` (the parts put together), `listen`, `door`, `room`, `tls`, `proxy`, `balance` and
//! `target`, `dataplane`; beside them `admin`, `metrics`, `logging`, `access`, `lines`,
//! `events`, `drain`, `ender`, `retire`, `occupancy` and `capacity`.

mod access;
mod admin;
#[cfg(test)]
mod allocated;
mod balance;
mod capacity;
mod cli;
mod config;
mod connections;
mod daemon;
mod dataplane;
mod door;
mod drain;
mod ender;
mod events;
mod id;
mod lines;
mod listen;
mod logging;
mod metrics;
mod names;
mod occupancy;
mod proxy;
mod retire;
mod room;
#[cfg(test)]
mod scratch;
mod selection;
mod state_dir;
mod target;
mod tls;
mod upgrades;

use std::process::ExitCode;

#[cfg(any(test, feature = "fuzz"))]
pub use proxy::fuzz;

/// Runs the command.
pub fn main() -> ExitCode {
    cli::main()
}
