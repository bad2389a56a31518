//! Builds the kernel program and tells the daemon where its object is, so that
//! it can be embedded.

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use toolchain::{Compiler, DEBIAN_RUSTC, TARGET, Toolchain};

const BINARY: &str = "limpet-ebpf";

/// Everything the object is made of.
const SOURCES: [&str; 7] = [
    "lb-ebpf/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/Cargo.lock",
    "lb-common/src",
    "lb-common/Cargo.toml",
    "xtask/src/toolchain.rs",
    "target/tools/bin/bpf-linker",
];

/// Settings of the outer build that must not leak into this one: they name
/// another compiler, or flags only that one understands.
const NOT_INHERITED: [&str; 13] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
];

fn main() -> ExitCode {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().unwrap_or(package);
    for source in SOURCES.map(|source| workspace.join(source)) {
        if source.exists() {
            println!("cargo::rerun-if-changed={}", source.display());
        }
    }
    match build(workspace) {
        Ok(object) => {
            println!("cargo::rustc-env=LIMPET_EBPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build(workspace: &Path) -> Result<PathBuf, String> {
    let toolchain = Toolchain::find(workspace).map_err(|missing| {
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        format!(
            "the kernel program needs {}, which this machine does not have; \
             `cargo xtask build` installs what is missing and builds everything",
            missing.join(" and ")
        )
    })?;
    let target_dir =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("ebpf");
    let mut command = cargo(&toolchain);
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "lb-ebpf",
            "--bin",
            BINARY,
        ])
        .args(["--target", TARGET])
        .arg("--manifest-path")
        .arg(workspace.join("lb-ebpf/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir);
    if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() {
        command.args(["--features", "log"]);
    }
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the kernel program does not build with {toolchain} ({status})"
        ));
    }
    Ok(target_dir.join(TARGET).join("release").join(BINARY))
}

fn cargo(toolchain: &Toolchain) -> Command {
    let mut command = match toolchain.compiler {
        Compiler::Debian => Command::new(env::var_os("CARGO").unwrap_or("cargo".into())),
        Compiler::Nightly => Command::new("rustup"),
    };
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain));
    match toolchain.compiler {
        Compiler::Debian => command
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1"),
        Compiler::Nightly => command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]),
    };
    command
}

/// v3 because atomics that return a value need it; BTF because maps and
/// verifier messages do.
fn flags(toolchain: &Toolchain) -> String {
    [
        &format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf",
        "-Ctarget-cpu=v3",
        // Packet fields stand at odd places; the kernels we run on load them whole.
        "-Ctarget-feature=+allows-misaligned-mem-access",
        "-Cdebuginfo=2",
        &format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
    ]
    .join("\x1f")
}
