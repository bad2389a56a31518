//! Where things are in the working tree.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |directory| root().join(directory))
}

/// The daemon, once built.
pub(crate) fn limpet() -> PathBuf {
    target().join("release/limpet")
}

/// Applications that the lab puts behind the balancer.
pub(crate) fn apps() -> PathBuf {
    root().join("target/apps")
}

/// Tools the xtask builds for itself; `cargo clean` removes them too.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}
