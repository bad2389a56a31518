//! `cargo xtask lint`: formatting, clippy, documentation, dependencies.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, say};
use crate::{install, workspace};

/// Every check; stops at the first that fails.
pub(crate) fn run() -> Result<()> {
    components()?;
    install::toolchain()?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(kernel(shell::cargo().args(["fmt", "--check"])))?;
    shell::run(
        shell::cargo()
            .args(["fmt", "--check"])
            .current_dir(workspace::root().join("fuzz")),
    )?;
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    kernel_clippy()?;
    shell::run(
        shell::cargo()
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    dependencies()?;
    say("lint: clean");
    Ok(())
}

/// The kernel program is checked for the host: clippy has no `core` for BPF,
/// and the lints are about the source, not about the target. std is linked for
/// its panic handler, which the program only has on its own target.
fn kernel_clippy() -> Result<()> {
    let arch = env::consts::ARCH;
    shell::run(
        kernel(shell::cargo().arg("clippy"))
            .arg("--target-dir")
            .arg(workspace::target().join("lint-ebpf"))
            .args(["--", "--deny", "warnings", "-Cpanic=abort"])
            .args(["-Zunstable-options", "--extern=force:std"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "CARGO_BUILD_RUSTFLAGS",
                format!("--cfg bpf_target_arch=\"{arch}\""),
            ),
    )
}

fn kernel(cargo: &mut Command) -> &mut Command {
    cargo.current_dir(workspace::root().join("lb-ebpf"))
}

fn components() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !shell::succeeds(shell::cargo().args([verb, "--version"])) {
            say(format!("installing rustup component {component}"));
            shell::run(shell::command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn dependencies() -> Result<()> {
    if !shell::succeeds(shell::cargo().args(["deny", "--version"])) {
        say("skipped: cargo deny is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "check"]))
}
