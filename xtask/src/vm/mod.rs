//! `cargo xtask vm`: other kernels, emulated. Boots each, and in it takes the programs
//! through its verifier, attaches them and hands connections over, with the same tests
//! that run on this machine and with some that need what other kernels have.

mod guest;
mod initramfs;
mod kernel;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use lb_tests::daemon;
use serde_json::Value;

use crate::install::{self, Tool};
use crate::shell::{self, say};
use crate::{build, test, workspace};
use guest::Step;

/// What boots a kernel and fills its initramfs, beyond what the lab calls.
const TOOLS: [Tool; 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
    ("tc", "iproute2"),
    ("setpriv", "util-linux"),
];

/// The oldest kernel that is promised, before tcx; and one between that and this one.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Test binaries and what of them is run. Emulation is slow: one test of each kind.
const STEPS: [Step; 5] = [
    Step {
        binary: "limpet",
        name: "verifier and packets, one by one",
        tests: &[
            "dataplane::tests::commit::a_commit_on_the_word_that_stands_makes_the_flow_live",
            "dataplane::tests::forwarding::what_xdp_cannot_send_is_left_whole_to_tc",
        ],
    },
    Step {
        binary: "handoff",
        name: "attached, handed over, past kill -9 and restart",
        tests: &["tc_outlives_kill_9", "xdp_outlives_kill_9"],
    },
    Step {
        binary: "handoff",
        name: "detached again",
        tests: &["detach_refuses_while_flows_live"],
    },
    Step {
        binary: "attach",
        name: "hashed data, under two daemons one after the other",
        tests: &["streams_go_on_while_the_daemon_is_replaced"],
    },
    Step {
        binary: "attach",
        name: "in a VLAN",
        tests: &["in_a_vlan_over_tc", "in_a_vlan_over_xdp"],
    },
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these kernels, for instance 6.1.
    kernels: Vec<String>,
}

/// Boots every kernel in turn; fails when one test in one of them did not pass.
pub(crate) fn run(options: &Options) -> Result<()> {
    shell::require_root("vm", "it installs and unpacks Debian packages")?;
    install::tools(&test::TOOLS)?;
    install::tools(&TOOLS)?;
    let binaries = binaries()?;
    let asked = &options.kernels;
    for name in KERNELS {
        if !asked.is_empty() && !asked.iter().any(|one| one == name) {
            continue;
        }
        let start = Instant::now();
        let kernel = kernel::get(name)?;
        let image = initramfs::build(&kernel, &binaries, &guest::script(&STEPS))?;
        guest::boot(&kernel, &image, STEPS.len())?;
        say(format!(
            "{}: every step held, in {} s",
            kernel.version,
            start.elapsed().as_secs()
        ));
    }
    Ok(())
}

/// The daemon (`LIMPET_BIN`, or built as users get it) and the test binaries, by the
/// name they have in the guest.
fn binaries() -> Result<HashMap<String, PathBuf>> {
    let daemon = match std::env::var_os("LIMPET_BIN") {
        Some(_) => daemon::binary()?,
        None => build::run()?,
    };
    let mut binaries = HashMap::from([("limpet".to_owned(), daemon)]);
    let cargo = &mut shell::cargo();
    // The whole workspace, as `cargo xtask test` has built it already.
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json"]);
    for (name, path) in executables(cargo)? {
        if STEPS.iter().any(|step| step.binary == name) {
            binaries.insert(format!("test-{name}"), path);
        }
    }
    Ok(binaries)
}

/// Name and path of every test binary that a cargo command builds, but for those of
/// lb-common: nothing of it needs a kernel, and a name of it is one of the lab's too.
fn executables(cargo: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    say("building the tests");
    let done = cargo
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo")?;
    if !done.status.success() {
        bail!("the tests could not be built");
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let source = message["target"]["src_path"].as_str().unwrap_or_default();
        if Path::new(source).starts_with(workspace::root().join("lb-common")) {
            continue;
        }
        if let (Some(name), Some(path), Some(true)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
            message["profile"]["test"].as_bool(),
        ) {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(found)
}
