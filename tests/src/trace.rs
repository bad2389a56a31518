//! What the kernel's tracepoints tell of a namespace's XDP programs that have failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::run::Run;

/// Where the kernel keeps its tracepoints, by custom.
const TRACEFS: &str = "/sys/kernel/tracing";

/// A trace buffer of one run, gone with it.
#[derive(Debug)]
pub struct Exceptions {
    directory: PathBuf,
    /// What an event of one of the programs contains.
    programs: Vec<String>,
}

impl Exceptions {
    /// From now on every XDP_ABORTED of the XDP programs that a namespace has at this
    /// moment is noted (`xdp:xdp_exception`). An error if it has none.
    pub fn watch(run: &Run, namespace: &Namespace) -> Result<Self> {
        let programs = programs(namespace)?;
        ensure!(!programs.is_empty(), "no XDP in {}", namespace.name());
        mount_tracefs()?;
        let directory = instance(run);
        fs::create_dir(&directory)
            .with_context(|| format!("making {} (this needs root)", directory.display()))?;
        let event = directory.join("events/xdp/xdp_exception");
        // enum xdp_action: a program that returns it, or anything that is no action.
        fs::write(event.join("filter"), "act == 0 || act > 4").context("filtering")?;
        fs::write(event.join("enable"), "1").context("enabling xdp:xdp_exception")?;
        Ok(Self {
            directory,
            programs,
        })
    }

    /// Those noted so far, one a line.
    pub fn noted(&self) -> Result<Vec<String>> {
        let trace = fs::read_to_string(self.directory.join("trace"))?;
        let ours = |line: &&str| self.programs.iter().any(|one| line.contains(one));
        Ok(trace.lines().filter(ours).map(str::to_owned).collect())
    }
}

/// Removes a run's trace buffer, if there is one.
pub(crate) fn remove(run: &Run) {
    let directory = instance(run);
    if directory.exists()
        && let Err(error) = fs::remove_dir(&directory)
    {
        eprintln!("lab: {}: {error}", directory.display());
    }
}

fn programs(namespace: &Namespace) -> Result<Vec<String>> {
    let links = namespace.output(Command::new("ip").args(["-j", "-d", "link"]))?;
    let links: Value = serde_json::from_str(&links)?;
    let ids = links.as_array().into_iter().flatten();
    Ok(ids
        .filter_map(|link| link["xdp"]["prog"]["id"].as_u64())
        .map(|id| format!("prog_id={id} "))
        .collect())
}

fn instance(run: &Run) -> PathBuf {
    Path::new(TRACEFS).join("instances").join(run.name())
}

fn mount_tracefs() -> Result<()> {
    if Path::new(TRACEFS).join("instances").exists() {
        return Ok(());
    }
    mount(
        Some("tracefs"),
        TRACEFS,
        Some("tracefs"),
        MsFlags::empty(),
        None::<&Path>,
    )
    .with_context(|| format!("mounting {TRACEFS}"))
}
