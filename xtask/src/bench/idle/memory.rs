//! What a balancer's processes hold, by the kernel's account.

use std::fs;

use anyhow::{Context, Result};

/// Bytes at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Of a process and its children; pages that several have are shared out (Pss).
    pub(super) processes: u64,
    /// All slabs of the kernel: sockets of client, balancer and target, and whatever else
    /// the machine does meanwhile.
    pub(super) kernel: u64,
}

impl Memory {
    pub(super) fn now(process: u32) -> Result<Self> {
        let mut processes = 0;
        for one in family(process)? {
            processes += kibibytes(&format!("/proc/{one}/smaps_rollup"), "Pss:")? * 1024;
        }
        Ok(Self {
            processes,
            kernel: kibibytes("/proc/meminfo", "Slab:")? * 1024,
        })
    }
}

/// A process and its children.
fn family(parent: u32) -> Result<Vec<u32>> {
    let mut family = vec![parent];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        if field(&status, "PPid:") == Some(parent.into()) {
            family.push(process);
        }
    }
    Ok(family)
}

fn kibibytes(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    field(&text, name).with_context(|| format!("{path} has no {name}"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
