//! What the table takes, as the kernel counts it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use aya::maps::MapData;

/// Bytes at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// What the two maps say of themselves: elements and buckets.
    maps: u64,
    /// All memory of the kernel's own that cannot be given back, allocator's rounding
    /// included; what else the machine does is in it too.
    kernel: u64,
}

impl Memory {
    pub(super) fn now(flows: &MapData, targets: &MapData) -> Result<Self> {
        Ok(Self {
            maps: memlock(flows)? + memlock(targets)?,
            kernel: field("/proc/meminfo", "SUnreclaim:")? * 1024,
        })
    }

    /// For each of so many flows that came since.
    pub(super) fn print_since(&self, before: &Self, flows: u32) {
        let each = |bytes: u64| bytes / u64::from(flows);
        println!(
            "bytes per flow: {} by the maps' own figures, {} by the kernel's allocator, besides \
             {} for the buckets",
            each(self.maps.saturating_sub(before.maps)),
            each(self.kernel.saturating_sub(before.kernel)),
            each(before.maps),
        );
    }
}

fn memlock(map: &MapData) -> Result<u64> {
    let fd = map.fd().as_fd().as_raw_fd();
    field(&format!("/proc/self/fdinfo/{fd}"), "memlock:")
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let value = text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    value.with_context(|| format!("{path} has no {name}"))
}
