//! `cargo xtask test`: every test, with real packets in network namespaces.

use anyhow::Result;
use clap::Args;
use lb_tests::{interrupt, leftovers};

use crate::build;
use crate::install::{self, Tool};
use crate::shell::{self, say};

/// What the lab calls.
pub(crate) const TOOLS: [Tool; 8] = [
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    // Certificates, and a client of TLS.
    ("openssl", "openssl"),
    // An independent opinion on what a packet says.
    (
        "/usr/lib/python3/dist-packages/scapy/__init__.py",
        "python3-scapy",
    ),
    // And on what a request says.
    (
        "/usr/lib/python3/dist-packages/h11/__init__.py",
        "python3-h11",
    ),
];

/// What the suites in `tests/tests/suites` run, beside node.
const SUITES: [Tool; 2] = [("varnishtest", "varnish"), ("slowhttptest", "slowhttptest")];
/// And those that take long.
const LONG_SUITES: [Tool; 2] = [("testssl", "testssl.sh"), ("chromium", "chromium")];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run the suites of others only, with those that take long
    #[arg(long)]
    suites: bool,
    /// Passed on to cargo test, for instance `--test handoff`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the daemon as users get it, then runs all tests against it.
pub(crate) fn run(options: &Options) -> Result<()> {
    shell::require_root(
        "test",
        "the lab makes network namespaces and loads BPF programs",
    )?;
    install::tools(&[&TOOLS[..], &SUITES].concat())?;
    install::apps()?;
    let limpet = build::run()?;
    interrupt::wait_for_children();
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    if options.suites {
        install::tools(&LONG_SUITES)?;
        cargo.args(["--test", "suites", "--", "--include-ignored"]);
        match install::autobahn()? {
            Some(python) => cargo.env("LIMPET_PYTHON2", python),
            None => {
                say("SKIPPED: Autobahn's suite runs on Python 2.7, which is not here");
                cargo.args(["--skip", "autobahn"])
            }
        };
    }
    let tested = shell::run(cargo.args(&options.rest).env("LIMPET_BIN", limpet));
    leftovers::sweep();
    tested
}
