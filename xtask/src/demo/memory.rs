//! How much kernel memory the maps of a daemon take, by the kernel's own account.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

/// Bytes of all maps pinned below a directory.
pub(super) fn of_maps(pins: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(pins)? {
        let path = entry?.path();
        sum += if path.is_dir() {
            of_maps(&path)?
        } else {
            of_map(&path)?
        };
    }
    Ok(sum)
}

/// Programs and links are pinned too; those count nothing.
fn of_map(pin: &Path) -> Result<u64> {
    let output = Command::new("bpftool")
        .args(["map", "show", "pinned"])
        .arg(pin)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let memory = text
        .split("memlock ")
        .nth(1)
        .and_then(|rest| rest.split('B').next());
    Ok(memory
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0))
}
