//! Kernels of Debian: found, downloaded and unpacked, once.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::shell::output;

use crate::shell::{self, say};
use crate::{install, workspace};

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) version: String,
    /// The package's files.
    pub(super) root: PathBuf,
}

impl Kernel {
    /// What qemu boots.
    pub(super) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.version))
    }

    /// Its modules.
    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.version)
    }
}

/// Where kernels and what is made of them are kept.
pub(super) fn directory() -> PathBuf {
    workspace::target().join("vm")
}

/// The newest kernel of a series, "6.1" for instance: from target/vm, else Debian's.
pub(super) fn get(series: &str) -> Result<Kernel> {
    let kept = directory().join(series);
    if !kept.join("lib/modules").is_dir() {
        download(series)?;
    }
    let modules = kept.join("lib/modules");
    let version = fs::read_dir(&modules)
        .with_context(|| modules.display().to_string())?
        .flatten()
        .find_map(|entry| entry.file_name().into_string().ok())
        .context("a kernel package without modules")?;
    Ok(Kernel {
        version,
        root: kept,
    })
}

fn download(series: &str) -> Result<()> {
    install::lists()?;
    let package = newest(series)?;
    say(format!("downloading {package} into target/vm"));
    // Beside its place first: what is there is whole.
    let fresh = directory().join(format!("{series}.part"));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    shell::run(
        Command::new("apt-get")
            // Not as another user, who may not write here.
            .args(["-o", "APT::Sandbox::User=root", "-qq", "download", &package])
            .current_dir(&fresh),
    )?;
    let deb = fs::read_dir(&fresh)?
        .flatten()
        .next()
        .context("apt-get download left no package")?
        .path();
    shell::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&fresh))?;
    fs::remove_file(deb)?;
    fs::rename(fresh, directory().join(series)).context("a kernel's directory")
}

/// The package of the newest kernel in a series.
fn newest(series: &str) -> Result<String> {
    let pattern = format!(
        r"^linux-image-{}\..*cloud-amd64$",
        series.replace('.', r"\.")
    );
    let found = output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let mut packages: Vec<String> = found
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    packages.sort_by_key(|package| numbers(package));
    packages.pop().with_context(|| {
        format!("no package matches {pattern}: is this Debian, with its main archive?")
    })
}

/// The numbers in a version, by which it is sorted.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_sorted_by_their_numbers() {
        let mut all = [
            "linux-image-6.1.0-9-cloud",
            "linux-image-6.1.0-56-cloud",
            "linux-image-6.1.0-10-cloud",
        ];
        all.sort_by_key(|name| numbers(name));
        assert_eq!(all[2], "linux-image-6.1.0-56-cloud");
        assert_eq!(all[0], "linux-image-6.1.0-9-cloud");
    }
}
