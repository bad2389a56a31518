//! What this process may take of its host: how many connections its descriptors and
//! its memory allow.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// A client's connection and the one to its target.
const DESCRIPTORS_EACH: u64 = 2;
/// Listening sockets, maps and programs, the admin API, health checks, files.
const DESCRIPTORS_KEPT: u64 = 256;
/// Of an HTTP connection in the midst of a request: two buffers here and what the
/// kernel's four have in them as a rule. Idle ones take less.
const BYTES_EACH: u64 = 32 * 1024;

/// Raises the limit on open files as far as it may go.
pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit on open files could not be raised");
    }
}

/// The connections there may be at a time: what the configuration says, or what the
/// host allows.
pub(crate) fn max_connections(configured: u32) -> u32 {
    // Unknown is unlimited: then accepting fails, and pauses.
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let by_descriptors = by_descriptors(descriptors);
    if configured == 0 {
        return by_descriptors.min(by_memory(memory()));
    }
    if configured > by_descriptors {
        warn!(
            max_connections = configured,
            descriptors, "the limit on open files allows only {by_descriptors} connections"
        );
    }
    configured
}

fn by_descriptors(limit: u64) -> u32 {
    let kept = DESCRIPTORS_KEPT.min(limit / 2);
    at_least_one((limit - kept) / DESCRIPTORS_EACH)
}

/// Half of it: the rest is for flows and everything else.
fn by_memory(bytes: u64) -> u32 {
    at_least_one(bytes / 2 / BYTES_EACH)
}

fn at_least_one(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// The host's memory or what the control group allows, in bytes.
fn memory() -> u64 {
    let host = fs::read_to_string("/proc/meminfo").ok();
    let host = host.as_deref().and_then(total).unwrap_or(u64::MAX);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(unified);
    let limits = group.into_iter().flat_map(|group| {
        let group = Path::new("/sys/fs/cgroup").join(group);
        let all: Vec<_> = group
            .ancestors()
            .map(|one| one.join("memory.max"))
            .collect();
        all
    });
    limits
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .fold(host, u64::min)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The path of /proc/self/cgroup in the unified hierarchy (cgroups(7)).
fn unified(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_memory_allow() {
        assert_eq!(by_descriptors(0), 1);
        assert_eq!(by_descriptors(64), 16);
        assert_eq!(by_descriptors(1024), 384);
        assert_eq!(by_descriptors(20_000), 9_872);
        assert_eq!(by_descriptors(u64::MAX), u32::MAX);
        assert_eq!(by_memory(1 << 30), 16_384);
        assert_eq!(by_memory(0), 1);
    }

    #[test]
    fn what_the_kernel_writes() {
        let meminfo = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";
        assert_eq!(total(meminfo), Some(16 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(unified("1:cpu:/a\n0::/b/c\n"), Some("b/c"));
        assert_eq!(unified("1:cpu:/a\n"), None);
        let here = memory();
        assert!((1 << 20..u64::MAX).contains(&here), "{here}");
    }
}
