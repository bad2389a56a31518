//! The kernel program's own compiler: where it may be.
//!
//! One copy for two users: the xtask (which installs what is missing) and
//! `lb-userspace/build.rs` (which only uses what is there). Standard library
//! only, because a build script should not wait for dependencies.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel's own machine, little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Where Debian's compiler is.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler and a linker that together can build the kernel program.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// Which compiler has a `core` for BPF.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compiler {
    /// Debian's rustc with its prebuilt `core` (libstd-rust-web-dev-bpf).
    Debian,
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly,
}

/// The part that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A Rust compiler with a `core` for BPF.
    Compiler,
    /// bpf-linker.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compiler => "a Rust compiler with a `core` for BPF",
            Self::Linker => "bpf-linker",
        })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = match self.compiler {
            Compiler::Debian => DEBIAN_RUSTC,
            Compiler::Nightly => "rustup's nightly with rust-src",
        };
        write!(f, "{compiler}, {}", self.linker.display())
    }
}

impl Toolchain {
    /// Looks for both parts; `workspace` is where the xtask puts its tools.
    pub(crate) fn find(workspace: &Path) -> Result<Self, Vec<Missing>> {
        match (find_compiler(), find_linker(workspace)) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            (compiler, linker) => Err([
                compiler.is_none().then_some(Missing::Compiler),
                linker.is_none().then_some(Missing::Linker),
            ]
            .into_iter()
            .flatten()
            .collect()),
        }
    }
}

fn find_compiler() -> Option<Compiler> {
    if debian_has_core() {
        return Some(Compiler::Debian);
    }
    nightly_has_sources().then_some(Compiler::Nightly)
}

fn debian_has_core() -> bool {
    sysroot(Command::new(DEBIAN_RUSTC).env_remove("RUSTUP_TOOLCHAIN"))
        .is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir())
}

fn nightly_has_sources() -> bool {
    sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]))
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir())
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn find_linker(workspace: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([workspace.join("target/tools/bin")])
        .map(|directory| directory.join("bpf-linker"))
        .find(|linker| linker.is_file())
}
