//! `cargo xtask build`: target/release/limpet, with the kernel program embedded.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{self, say};
use crate::{install, workspace};

/// Builds the daemon and answers where it is.
pub(crate) fn run() -> Result<PathBuf> {
    install::toolchain()?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "lb-userspace"]))?;
    let limpet = workspace::limpet();
    say(format!("built {}", limpet.display()));
    Ok(limpet)
}
