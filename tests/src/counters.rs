//! The kernel's own counters of a namespace's TCP: what it thought wrong with the
//! packets that came in.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// Counters of a namespace by name, `Group.Name`.
#[derive(Debug, Clone)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// What a wrong rewrite would raise: checksums that do not fit, timestamps that go
    /// backwards (PAWS), numbers from nowhere (challenge ACKs, RFC 5961).
    pub const COMPLAINTS: [&str; 6] = [
        "Tcp.InErrs",
        "Tcp.InCsumErrors",
        "TcpExt.PAWSEstab",
        "TcpExt.TCPChallengeACK",
        "TcpExt.TCPSYNChallenge",
        "TcpExt.TCPACKSkippedPAWS",
    ];

    /// As they are now; in a fresh namespace they begin at zero.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let files = ["/proc/net/snmp", "/proc/net/netstat"];
        let text = namespace.output(Command::new("cat").args(files))?;
        let lines: Vec<_> = text.lines().collect();
        // One line of names, then one of values.
        let pairs = lines.chunks_exact(2).flat_map(|pair| {
            let group = pair[0].split(':').next().unwrap_or_default();
            pair[0]
                .split_whitespace()
                .zip(pair[1].split_whitespace())
                .skip(1)
                .filter_map(move |(name, value)| {
                    Some((format!("{group}.{name}"), value.parse().ok()?))
                })
        });
        Ok(Self(pairs.collect()))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Result<u64> {
        let value = self.0.get(name).copied();
        value.with_context(|| format!("this kernel does not count {name}"))
    }
}
