//! What a host must have for the fast path, looked at one by one. Changes nothing, and
//! needs no daemon.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path as FsPath;

use aya::util::KernelVersion;
use lb_common::LAYOUT;

use super::attach::{self, Prospect};
use super::types::{Mode, Settings};

/// The oldest kernel whose verifier takes the programs.
const OLDEST: (u8, u8) = (6, 1);
/// Kernel memory of a flow in both tables, in bytes (ARCHITECTURE.md).
const FLOW_BYTES: u64 = 480;
/// Capabilities by number (linux/capability.h), and what each is for.
const CAPABILITIES: [(u32, &str); 4] = [
    (39, "CAP_BPF (to load programs)"),
    (38, "CAP_PERFMON (to read packets in them)"),
    (12, "CAP_NET_ADMIN (to attach them, and for socket repair)"),
    (10, "CAP_NET_BIND_SERVICE (for ports below 1024)"),
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Works, with a drawback.
    Warn,
    /// The fast path, or the daemon, does not work like this.
    Fail,
}

impl Level {
    /// For people and for JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// What was looked at.
    pub(crate) subject: String,
    /// What was found and, if it is not well, what to do.
    pub(crate) message: String,
}

impl Finding {
    fn new(level: Level, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level,
            subject: subject.into(),
            message: message.into(),
        }
    }
}

/// Looks at everything that `settings` will need.
pub(crate) fn examine(settings: &Settings) -> Vec<Finding> {
    if settings.mode == Mode::Off {
        let message = "fastpath.mode is off: every connection is relayed";
        return vec![Finding::new(Level::Warn, "fast path", message)];
    }
    let mut findings = vec![kernel(), jit(), capabilities(), bpffs(&settings.pin_dir)];
    findings.extend(layouts(&settings.pin_dir));
    findings.extend(interfaces(settings));
    findings.push(ports(&settings.source_ports));
    findings.push(memory(settings.max_flows));
    findings
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let (major, minor) = OLDEST;
    let new = |level, message: String| Finding::new(level, "kernel", message);
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(major, minor, 0) => new(
            Level::Fail,
            format!(
                "{release}: the fast path needs {major}.{minor} or later; without, every connection is relayed"
            ),
        ),
        Ok(_) => new(Level::Ok, release),
        Err(error) => new(Level::Warn, format!("{release}: {error}")),
    }
}

fn jit() -> Finding {
    match read("/proc/sys/net/core/bpf_jit_enable").as_str() {
        "0" => Finding::new(
            Level::Warn,
            "BPF JIT",
            "off: programs are interpreted, slowly; sysctl net.core.bpf_jit_enable=1",
        ),
        "" => Finding::new(
            Level::Ok,
            "BPF JIT",
            "no switch: the kernel always compiles",
        ),
        _ => Finding::new(Level::Ok, "BPF JIT", "on"),
    }
}

fn capabilities() -> Finding {
    let status = read("/proc/self/status");
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(number, _)| held & 1 << number == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Finding::new(
            Level::Ok,
            "capabilities",
            "this process has all that are needed",
        );
    }
    Finding::new(
        Level::Fail,
        "capabilities",
        format!("this process lacks {}", missing.join(", ")),
    )
}

fn bpffs(pin_dir: &FsPath) -> Finding {
    let subject = format!("pin directory {}", pin_dir.display());
    let Some(there) = pin_dir.ancestors().find(|path| path.exists()) else {
        return Finding::new(Level::Fail, subject, "the path leads nowhere");
    };
    match attach::is_bpffs(there) {
        Ok(true) => Finding::new(Level::Ok, subject, "on a bpffs"),
        Ok(false) if pin_dir.starts_with(attach::CUSTOMARY) => Finding::new(
            Level::Warn,
            subject,
            "no bpffs is mounted on /sys/fs/bpf; the daemon mounts one if it may \
             (CAP_SYS_ADMIN), else: mount -t bpf bpf /sys/fs/bpf",
        ),
        Ok(false) => Finding::new(
            Level::Fail,
            subject,
            "not on a bpffs: mount one there, or choose a fastpath.pin_dir under /sys/fs/bpf",
        ),
        Err(error) => Finding::new(Level::Warn, subject, format!("{error:#}")),
    }
}

/// What other versions of limpet have left.
fn layouts(pin_dir: &FsPath) -> Option<Finding> {
    let others = attach::other_layouts(pin_dir);
    let names: Vec<String> = others
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    (!names.is_empty()).then(|| {
        Finding::new(
            Level::Warn,
            "other versions",
            format!(
                "{} was left by another version of limpet (this one has layout {LAYOUT}); a daemon \
                 removes it if no flow lives there and refuses to start otherwise: \
                 `limpet detach --force` cuts those flows",
                names.join(", ")
            ),
        )
    })
}

fn interfaces(settings: &Settings) -> Vec<Finding> {
    let prospects = match attach::prospects(settings) {
        Ok(prospects) => prospects,
        Err(error) => {
            return vec![Finding::new(
                Level::Fail,
                "interfaces",
                format!("{error:#}"),
            )];
        }
    };
    if prospects.is_empty() {
        let message = "none is up and has an address; a daemon attaches to those that come";
        return vec![Finding::new(Level::Warn, "interfaces", message)];
    }
    prospects.iter().map(interface).collect()
}

fn interface(prospect: &Prospect) -> Finding {
    let subject = format!("interface {}", prospect.name);
    let Some(choice) = &prospect.choice else {
        let message = "there is no such interface; a daemon attaches to it when it comes";
        return Finding::new(Level::Warn, subject, message);
    };
    let hook = if choice.xdp.is_some() {
        "XDP, TC behind it"
    } else {
        "TC"
    };
    let message = format!("driver {}: {hook} ({})", prospect.driver, choice.reason);
    if prospect.merging.is_empty() {
        return Finding::new(Level::Ok, subject, message);
    }
    let off: Vec<String> = prospect
        .merging
        .iter()
        .map(|feature| format!("{feature} off"))
        .collect();
    Finding::new(
        Level::Warn,
        subject,
        format!(
            "{message}; packets are merged before XDP sees them: ethtool -K {} {}",
            prospect.name,
            off.join(" ")
        ),
    )
}

/// The kernel must not give our ports to others.
fn ports(ours: &RangeInclusive<u16>) -> Finding {
    let range = read("/proc/sys/net/ipv4/ip_local_port_range");
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let (first, last) = (ours.start(), ours.end());
    let message = match shared(ours, &range, &reserved) {
        None => {
            return Finding::new(
                Level::Warn,
                "source ports",
                "ip_local_port_range cannot be read",
            );
        }
        Some(0) => {
            return Finding::new(
                Level::Ok,
                "source ports",
                format!("{first}-{last}, which the kernel gives to nobody else"),
            );
        }
        Some(shared) => format!(
            "{shared} of {first}-{last} are also the kernel's (ip_local_port_range {}): change \
             fastpath.source_ports, or sysctl net.ipv4.ip_local_reserved_ports={first}-{last}",
            range.replace('\t', "-")
        ),
    };
    Finding::new(Level::Fail, "source ports", message)
}

/// How many of our ports the kernel gives to others.
fn shared(ours: &RangeInclusive<u16>, range: &str, reserved: &str) -> Option<usize> {
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return None;
    };
    let reserved: Vec<RangeInclusive<u16>> = reserved.split(',').filter_map(span).collect();
    let is_shared = |port: &u16| {
        (first..=last).contains(port) && !reserved.iter().any(|span| span.contains(port))
    };
    Some(ours.clone().filter(is_shared).count())
}

/// "8080" or "9000-9010".
fn span(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
}

fn memory(max_flows: u32) -> Finding {
    let full = u64::from(max_flows) * FLOW_BYTES / 1024;
    let available = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let message = format!("{max_flows} flows would take {} MiB", full / 1024);
    match available {
        Some(available) if available < full => Finding::new(
            Level::Warn,
            "memory",
            format!(
                "{message}, of {} MiB available: lower fastpath.max_flows",
                available / 1024
            ),
        ),
        _ => Finding::new(Level::Ok, "memory", message),
    }
}

/// A file's text, or nothing.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_ports_are_those_in_both_ranges_and_not_reserved() {
        let table = [
            (10_000..=32_767, "32768\t60999", "", Some(0)),
            (10_000..=32_768, "32768\t60999", "", Some(1)),
            (10_000..=10_009, "1024 65535", "", Some(10)),
            (10_000..=10_009, "1024 65535", "10000-10004,10007", Some(4)),
            (10_000..=10_009, "1024 65535", "9-20000", Some(0)),
            (10_000..=10_009, "", "", None),
        ];
        for (ours, range, reserved, expected) in table {
            assert_eq!(
                shared(&ours, range, reserved),
                expected,
                "{ours:?} {range} {reserved}"
            );
        }
    }

    #[test]
    fn what_merges_packets_before_xdp_is_named() {
        let mut prospect = Prospect {
            name: "eth7".into(),
            driver: "ice".into(),
            choice: Some(attach::Choice {
                xdp: Some(aya::programs::XdpMode::Driver),
                reason: "said so".into(),
            }),
            merging: vec!["rx-lro".into(), "rx-gro-hw".into()],
        };
        let finding = interface(&prospect);
        assert_eq!(finding.level, Level::Warn);
        let advice = "ethtool -K eth7 rx-lro off rx-gro-hw off";
        assert!(finding.message.ends_with(advice), "{}", finding.message);
        prospect.merging.clear();
        assert_eq!(interface(&prospect).level, Level::Ok);
    }

    #[test]
    fn a_fast_path_that_is_off_needs_nothing() {
        let settings = Settings {
            mode: Mode::Off,
            interfaces: Vec::new(),
            max_flows: 1,
            source_ports: 1..=1,
            pin_dir: "/nowhere".into(),
        };
        let findings = examine(&settings);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warn);
    }
}
