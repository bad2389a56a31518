//! Installing what a verb needs and the machine lacks, out loud.

use std::env;
use std::fs;
use std::iter;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::shell::{self, say};
use crate::toolchain::{Missing, Toolchain};
use crate::workspace;

/// A program, and the Debian package it comes in.
pub(crate) type Tool = (&'static str, &'static str);

/// Debian's Rust with a `core` for BPF, and the LLVM that bpf-linker is built on.
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];
const BPF_LINKER: &str = "0.13.0";
/// Versions of LLVM that this bpf-linker can be built on, the best first.
const LLVM: [&str; 3] = ["22", "23", "21"];
/// What runs the applications of the lab, and what installs them.
const NODE: [Tool; 2] = [("node", "nodejs"), ("npm", "npm")];
/// The exact versions of all of them.
const LOCK: &str = "package-lock.json";
const AUTOBAHN: &str = "autobahntestsuite==25.10.1";
/// Package lists older than this are fetched again before installing.
const LISTS_KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The compiler and the linker of the kernel program.
pub(crate) fn toolchain() -> Result<Toolchain> {
    if let Err(missing) = Toolchain::find(workspace::root()) {
        for part in missing {
            say(format!("missing: {part}"));
            match part {
                Missing::Compiler => compiler()?,
                Missing::Linker => linker()?,
            }
        }
    }
    let found = Toolchain::find(workspace::root())
        .map_err(|missing| anyhow::anyhow!("still missing after installing: {missing:?}"))?;
    say(format!("kernel program: {found}"));
    Ok(found)
}

/// Programs that tests and demo call.
pub(crate) fn tools(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|(program, _)| !shell::has(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    if !can_apt() {
        bail!(
            "missing: {}; install them (Debian: {})",
            programs.join(" "),
            packages.join(" ")
        );
    }
    apt(&packages)
}

/// The applications that `tests/apps` names, into `target/apps`.
pub(crate) fn apps() -> Result<()> {
    tools(&NODE)?;
    let (wanted, apps) = (workspace::root().join("tests/apps"), workspace::apps());
    let lock = fs::read(wanted.join(LOCK)).context("tests/apps")?;
    // Written when they are all there.
    let installed = apps.join("installed.json");
    if fs::read(&installed).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    say("installing the applications of tests/apps into target/apps (npm)");
    fs::create_dir_all(&apps)?;
    for file in ["package.json", LOCK] {
        fs::copy(wanted.join(file), apps.join(file)).context(file)?;
    }
    shell::run(
        shell::command("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&apps),
    )?;
    Ok(fs::write(installed, lock)?)
}

/// Autobahn's suite for WebSockets, into `target/autobahn`; the interpreter that runs it,
/// `None` where there is no Python 2.7, the only one it runs on.
pub(crate) fn autobahn() -> Result<Option<PathBuf>> {
    let Some(python) = python2() else {
        return Ok(None);
    };
    let place = workspace::root().join("target/autobahn");
    // Written when all is there.
    let installed = place.join("installed");
    if !installed.exists() {
        say("installing Autobahn's suite into target/autobahn (pip)");
        shell::run(
            shell::command(&python)
                .args([
                    "-W", "ignore", "-m", "pip", "install", "--quiet", "--target",
                ])
                .arg(&place)
                .arg(AUTOBAHN),
        )?;
        fs::write(installed, AUTOBAHN)?;
    }
    Ok(Some(python))
}

/// Python 2.7: Debian has it no more, pyenv has.
fn python2() -> Option<PathBuf> {
    let versions = env::home_dir()?.join(".pyenv/versions");
    let kept = fs::read_dir(versions).into_iter().flatten().flatten();
    let of_pyenv = kept
        .filter(|version| version.file_name().to_string_lossy().starts_with("2.7"))
        .map(|version| version.path().join("bin/python2.7"));
    let works = |python: &PathBuf| {
        let mut asked = shell::command(python);
        asked.args(["-c", ""]).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    iter::once(PathBuf::from("python2.7"))
        .chain(of_pyenv)
        .find(works)
}

fn compiler() -> Result<()> {
    if can_apt() && apt(&DEBIAN_COMPILER).is_ok() {
        return Ok(());
    }
    if !shell::has("rustup") {
        bail!(
            "no compiler for the kernel program: on Debian run this as root \
             (it installs {}), elsewhere install rustup",
            DEBIAN_COMPILER.join(" ")
        );
    }
    say("installing rustup's nightly with rust-src");
    shell::run(shell::command("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
}

fn linker() -> Result<()> {
    if llvm().is_none() && can_apt() {
        apt(&["llvm-22-dev"])?;
    }
    let (version, prefix) =
        llvm().context("bpf-linker needs LLVM's development files, under /usr/lib/llvm-22")?;
    say(format!(
        "building bpf-linker {BPF_LINKER} into target/tools (a minute or two)"
    ));
    shell::run(
        shell::cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"])
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{version}"),
            ])
            .arg("--root")
            .arg(workspace::tools())
            .arg("--target-dir")
            .arg(workspace::tools().join("build"))
            .env("LLVM_PREFIX", prefix),
    )?;
    fs::remove_dir_all(workspace::tools().join("build")).context("removing bpf-linker's build")
}

fn llvm() -> Option<(&'static str, PathBuf)> {
    LLVM.into_iter()
        .map(|version| (version, PathBuf::from(format!("/usr/lib/llvm-{version}"))))
        .find(|(_, prefix)| prefix.join("bin/llvm-config").is_file())
}

fn can_apt() -> bool {
    shell::is_root() && shell::has("apt-get")
}

fn apt(packages: &[&str]) -> Result<()> {
    say(format!(
        "installing Debian packages: {}",
        packages.join(" ")
    ));
    lists()?;
    shell::run(
        shell::command("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Fetches Debian's package lists unless they are of today.
pub(crate) fn lists() -> Result<()> {
    if lists_are_fresh() {
        return Ok(());
    }
    shell::run(shell::command("apt-get").args(["update", "-qq"]))
}

fn lists_are_fresh() -> bool {
    let Ok(entries) = fs::read_dir("/var/lib/apt/lists") else {
        return false;
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok()?.elapsed().ok())
        .any(|age| age < LISTS_KEEP)
}
