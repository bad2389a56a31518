//! A root file system for a guest: busybox, the lab's tools, the daemon, the tests, and
//! the kernel modules they need.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::shell::output;

use super::kernel::{Kernel, directory};
use crate::shell;

/// What the lab calls; with the libraries that they need.
const PROGRAMS: [&str; 9] = [
    "busybox", "ip", "ss", "tc", "nft", "ethtool", "nsenter", "setpriv", "sleep",
];
/// Parts of the kernel's modules: veth, VLAN and what it needs, clsact and netem.
const MODULES: [&str; 5] = [
    "drivers/net",
    "net/8021q",
    "net/802",
    "net/llc",
    "net/sched",
];
const DIRECTORIES: [&str; 9] = [
    "bin", "sbin", "proc", "sys", "dev", "tmp", "run", "var", "etc",
];

/// Builds the archive that qemu loads.
pub(super) fn build(
    kernel: &Kernel,
    binaries: &HashMap<String, PathBuf>,
    script: &str,
) -> Result<PathBuf> {
    let root = directory().join(format!("{}.root", kernel.version));
    let _ = fs::remove_dir_all(&root);
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    // Tools look for namespaces in /var/run.
    symlink("/run", root.join("var/run"))?;
    symlink("/bin/busybox", root.join("sbin/modprobe"))?;
    for name in PROGRAMS {
        add(&root, &find(name)?, name)?;
    }
    for (name, path) in binaries {
        add(&root, path, name)?;
        shell::run(
            Command::new("strip")
                .arg("-g")
                .arg(root.join("bin").join(name)),
        )?;
    }
    add_modules(&root, kernel)?;
    let init = root.join("init");
    fs::write(&init, script)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    pack(&root, kernel)
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is not on the path"))
}

/// Copies a program to /bin, and its libraries to where it looks for them.
fn add(root: &Path, program: &Path, name: &str) -> Result<()> {
    fs::copy(program, root.join("bin").join(name))
        .with_context(|| program.display().to_string())?;
    // A static program has none, which ldd calls a failure.
    let libraries = output(Command::new("ldd").arg(program)).unwrap_or_default();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in paths.map(Path::new) {
        let to = root.join(library.strip_prefix("/")?);
        if !to.exists() {
            fs::create_dir_all(to.parent().context("a library in /")?)?;
            fs::copy(library, to).with_context(|| library.display().to_string())?;
        }
    }
    Ok(())
}

fn add_modules(root: &Path, kernel: &Kernel) -> Result<()> {
    let (from, to) = (
        kernel.modules(),
        root.join("lib/modules").join(&kernel.version),
    );
    for part in MODULES {
        let to = to.join("kernel").join(part);
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from.join("kernel").join(part))?.flatten() {
            // No subdirectories: drivers of hardware that no guest has.
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(from.join(list), to.join(list))?;
    }
    shell::run(
        Command::new("depmod")
            .arg("-b")
            .arg(root)
            .arg(&kernel.version),
    )
}

fn pack(root: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let archive = directory().join(format!("{}.cpio", kernel.version));
    let line = format!("find . | cpio --quiet -o -H newc > '{}'", archive.display());
    shell::run(Command::new("sh").args(["-ec", &line]).current_dir(root))?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}
