//! The command line: verbs, options, exit status.

mod check;
mod client;
mod doctor;
mod table;
mod targets;
mod verbs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::{daemon, dataplane};
use client::Unreached;

/// Exit status when the configuration is bad or running failed.
const FAILED: u8 = 1;
/// Exit status when the daemon could not be reached.
const UNREACHED: u8 = 3;

/// A sticky load balancer for WebSockets.
#[derive(Debug, Parser)]
#[command(name = "limpet", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the balancer.
    Run(ConfigFile),
    /// Check a configuration file and say everything that is wrong with it.
    Check(ConfigFile),
    /// Show what runs, what is attached and why.
    Status(Ask),
    /// List upgraded connections and what carries them.
    Connections {
        /// Only those of this target.
        #[arg(long, value_name = "ADDR")]
        target: Option<String>,
        /// Only those that this carries: xdp, tc or userspace.
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// List targets, their state and why.
    Targets(Ask),
    /// Put a target into a group, now and after restarts.
    Register {
        #[command(flatten)]
        target: targets::Named,
        /// Its share of new sessions, relative to the others'; 0 for none.
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Take a target out of its group, after the deregistration delay.
    Deregister {
        #[command(flatten)]
        target: targets::Named,
        /// Return once it has left.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Send nobody new to a target.
    Drain {
        #[command(flatten)]
        target: targets::Named,
        /// Return once it has no upgraded connection any more.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Send new sessions to a drained target again.
    Ready {
        #[command(flatten)]
        target: targets::Named,
        #[command(flatten)]
        ask: Ask,
    },
    /// Change a target's share of new sessions.
    Weight {
        #[command(flatten)]
        target: targets::Named,
        /// The weight, relative to the others'; 0 for none.
        weight: u32,
        #[command(flatten)]
        ask: Ask,
    },
    /// End a connection: both its ends get a reset.
    Reset {
        /// As `limpet connections` shows it.
        id: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Look at what this host has and lacks for the fast path; needs no daemon.
    Doctor {
        /// The configuration that is to run here; else the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Detach the kernel program and remove what is pinned.
    Detach {
        /// The configuration that names the pin directory; else the default one.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// End the flows that live, with resets.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// How the daemon is asked.
#[derive(Debug, Args)]
struct Ask {
    /// The daemon's admin API: http://HOST:PORT or unix:/PATH.
    #[arg(
        long,
        value_name = "URL",
        env = "LIMPET_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: String,
    /// The file that holds the admin API's token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

/// Does what the arguments say.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(file) => run(&file.config),
        Verb::Check(file) => check::run(&file.config),
        Verb::Status(ask) => verbs::status(&ask),
        Verb::Connections { target, path, ask } => {
            verbs::connections(&ask, target.as_deref(), path.as_deref())
        }
        Verb::Targets(ask) => targets::list(&ask),
        Verb::Register {
            target,
            weight,
            ask,
        } => targets::register(&ask, &target, weight),
        Verb::Deregister { target, wait, ask } => targets::deregister(&ask, &target, wait),
        Verb::Drain { target, wait, ask } => targets::drain(&ask, &target, wait),
        Verb::Ready { target, ask } => targets::ready(&ask, &target),
        Verb::Weight {
            target,
            weight,
            ask,
        } => targets::weigh(&ask, &target, weight),
        Verb::Reset { id, ask } => verbs::reset(&ask, &id),
        Verb::Doctor { config, json } => doctor::run(config.as_deref(), json),
        Verb::Detach { config, force } => detach(config.as_deref(), force),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limpet: {error:#}");
            let unreached = error.downcast_ref::<Unreached>().is_some();
            ExitCode::from(if unreached { UNREACHED } else { FAILED })
        }
    }
}

fn run(file: &Path) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let metrics = Arc::new(Metrics::new()?);
    let _log = Logging::start(&config.log, metrics.log_dropped())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(daemon::run(config, metrics));
    // A second TERM waits for nobody.
    runtime.shutdown_background();
    done
}

fn detach(config: Option<&Path>, force: bool) -> anyhow::Result<()> {
    let pin_dir = match config {
        Some(file) => Config::load(file)?.fastpath.pin_dir,
        None => crate::config::default_fastpath().pin_dir,
    };
    let report = dataplane::detach(&pin_dir, force)?;
    match (report.found, report.ended) {
        (false, _) => println!("nothing is attached under {}", pin_dir.display()),
        (true, 0) => println!("detached"),
        (true, ended) => println!("detached; {ended} connections were reset"),
    }
    Ok(())
}
