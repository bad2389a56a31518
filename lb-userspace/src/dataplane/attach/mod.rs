//! Attaching the program, and keeping it attached, also while no daemon runs.
//!
//! Maps and links are pinned under `pin_dir/v<layout>/`. A daemon that starts
//! where one ran before takes over the maps and replaces the programs in the
//! links atomically; no packet meets an interface without a program.
//!
//! While the daemon runs it looks after its interfaces: one that comes, or comes
//! again, or has lost its programs to somebody, is attached.

mod choice;
mod ethtool;
mod layouts;
mod netlink;
mod object;
mod pins;
mod prospect;
mod tc;
mod xdp;

use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aya::Ebpf;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags as Flags, if_nametoindex};

use super::types::{InterfaceStatus, Mode, Path, Settings};
#[cfg(test)]
pub(super) use choice::Choice;
#[cfg(test)]
pub(super) use ethtool::features;
pub(super) use layouts::{OtherLayout, clear, other_layouts};
pub(super) use object::load;
pub(super) use pins::{CUSTOMARY, InUse, PinDir, is_bpffs, versioned};
pub(super) use prospect::{Prospect, prospects};

/// How often the interfaces are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The interfaces and what is attached to each.
#[derive(Debug)]
pub(super) struct Attachments {
    pins: PinDir,
    mode: Mode,
    /// `fastpath.interfaces`; empty means all that can lead somewhere.
    configured: Vec<String>,
    attached: Vec<Attached>,
    looked: Instant,
}

/// One interface, and how it stands with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attached {
    name: String,
    /// None while there is no such interface.
    index: Option<u32>,
    /// Ids of the programs that must be found there; none if attaching failed.
    programs: Option<Programs>,
    path: Path,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Programs {
    tc: [u32; 2],
    xdp: Option<u32>,
}

impl Attachments {
    /// Attaches to the interfaces; what failed is in the status, not an error.
    ///
    /// # Errors
    /// If interfaces are there and not one could be attached to.
    pub(super) fn new(ebpf: &mut Ebpf, pins: PinDir, settings: &Settings) -> anyhow::Result<Self> {
        let mut all = Self {
            pins,
            mode: settings.mode,
            configured: settings.interfaces.clone(),
            attached: Vec::new(),
            looked: Instant::now(),
        };
        for name in wanted(&all.configured)? {
            let attached = all.attach(ebpf, &name);
            all.attached.push(attached);
        }
        all.forget_others();
        tc::remove_filters(all.pins.handle(), &all.indices());
        if !all.attached.is_empty() && all.attached.iter().all(Attached::has_failed) {
            let why: Vec<_> = all
                .attached
                .iter()
                .map(|one| format!("{}: {}", one.name, one.reason))
                .collect();
            bail!("no interface to attach to ({})", why.join("; "));
        }
        Ok(all)
    }

    /// Where everything is pinned.
    pub(super) fn pins(&self) -> &PinDir {
        &self.pins
    }

    /// What is attached where, and why.
    pub(super) fn status(&self) -> Vec<InterfaceStatus> {
        let status = |one: &Attached| InterfaceStatus {
            name: one.name.clone(),
            path: one.path,
            reason: one.reason.clone(),
        };
        self.attached.iter().map(status).collect()
    }

    /// Whether it is time to look and something is not as it should be.
    pub(super) fn need_care(&mut self) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let Ok(names) = wanted(&self.configured) else {
            return false;
        };
        names.len() != self.attached.len()
            || !names
                .iter()
                .zip(&self.attached)
                .all(|(name, one)| one.name == *name && self.complaint(one).is_none())
    }

    /// Attaches what is not; says what it found and did.
    pub(super) fn care(&mut self, ebpf: &mut Ebpf) {
        let Ok(names) = wanted(&self.configured) else {
            return;
        };
        let before = mem::take(&mut self.attached);
        for old in before.iter().filter(|old| !names.contains(&old.name)) {
            tracing::warn!(interface = old.name, "the interface is gone");
        }
        for name in names {
            let old = before.iter().find(|old| old.name == name);
            let now = match old {
                Some(old) => self.again(ebpf, old),
                None => self.first(ebpf, &name),
            };
            self.attached.push(now);
        }
        self.forget_others();
    }

    fn first(&self, ebpf: &mut Ebpf, name: &str) -> Attached {
        let now = self.attach(ebpf, name);
        tracing::info!(interface = name, path = ?now.path, reason = now.reason, "a new interface");
        now
    }

    fn again(&self, ebpf: &mut Ebpf, old: &Attached) -> Attached {
        let Some(complaint) = self.complaint(old) else {
            return old.clone();
        };
        let mut now = self.attach(ebpf, &old.name);
        if now.index.is_some() && !now.has_failed() {
            let Attached {
                name, path, reason, ..
            } = &now;
            tracing::warn!(interface = name, ?path, reason, complaint, "attached again");
            now.reason = format!("{reason}; attached again: {complaint}");
        } else if now != *old {
            let Attached { name, reason, .. } = &now;
            tracing::warn!(interface = name, reason, complaint, "not attached any more");
        }
        now
    }

    /// What is wrong with an interface, if anything is.
    fn complaint(&self, one: &Attached) -> Option<&'static str> {
        let index = if_nametoindex(one.name.as_str()).ok();
        if index != one.index {
            return Some(match (one.index, index) {
                (None, _) => "the interface has come",
                (_, None) => "the interface is gone",
                _ => "the interface was made anew",
            });
        }
        let (index, Programs { tc, xdp }) = (index?, one.programs?);
        let in_place = tc::HOOKS
            .into_iter()
            .zip(tc)
            .all(|(hook, program)| tc::is_attached(program, &self.pins, hook, &one.name, index));
        let xdp_in_place = xdp.is_none_or(|program| {
            // Who cannot see cannot say that it is gone.
            netlink::interface(&one.name)
                .is_ok_and(|now| now.is_none_or(|now| now.xdp == Some(program)))
        });
        (!in_place || !xdp_in_place).then_some("somebody had detached it")
    }

    fn attach(&self, ebpf: &mut Ebpf, name: &str) -> Attached {
        let mut one = Attached {
            name: name.to_owned(),
            index: if_nametoindex(name).ok(),
            programs: None,
            path: Path::Userspace,
            reason: "there is no such interface yet".into(),
        };
        if let Some(index) = one.index {
            match self.attach_to(ebpf, name, index) {
                Ok((programs, reason)) => {
                    one.path = programs.xdp.map_or(Path::Tc, |_| Path::Xdp);
                    one.programs = Some(programs);
                    one.reason = reason;
                }
                Err(error) => one.reason = format!("{error:#}"),
            }
        }
        one
    }

    /// TC first: it carries everything by itself, XDP in front only takes over more.
    fn attach_to(
        &self,
        ebpf: &mut Ebpf,
        name: &str,
        index: u32,
    ) -> anyhow::Result<(Programs, String)> {
        let mut programs = Programs {
            tc: [0; 2],
            xdp: None,
        };
        let mut how = "";
        for (hook, id) in tc::HOOKS.into_iter().zip(&mut programs.tc) {
            let program = object::classifier(ebpf, hook.program)?;
            how = tc::attach(program, &self.pins, hook, name, index)?;
            *id = program.info()?.id();
        }
        let interface = netlink::interface(name)?.context("the interface has just gone")?;
        let choice = choice::choose(self.mode, &xdp::facts(self.pins.path(), name, &interface));
        let Some(mode) = choice.xdp else {
            xdp::detach(&self.pins, index);
            return Ok((programs, format!("{} ({how})", choice.reason)));
        };
        let reason = match xdp::attach(ebpf, &self.pins, index, mode) {
            Ok(id) => {
                programs.xdp = Some(id);
                choice.reason
            }
            Err(error) => format!("XDP refused ({error:#}), TC instead ({how})"),
        };
        Ok((programs, reason))
    }

    fn indices(&self) -> Vec<u32> {
        self.attached.iter().filter_map(|one| one.index).collect()
    }

    fn forget_others(&self) {
        self.pins.keep_links_of(&self.indices());
    }
}

impl Attached {
    /// The interface is there and would not take the programs.
    fn has_failed(&self) -> bool {
        self.index.is_some() && self.programs.is_none()
    }
}

/// The configured interfaces, or all that are up and have an address: those that can
/// lead to clients and targets, the loopback to those on this host.
fn wanted(configured: &[String]) -> anyhow::Result<Vec<String>> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    let mut names = Vec::new();
    for interface in getifaddrs().context("listing interfaces")? {
        let usable = interface.flags.contains(Flags::IFF_UP) && interface.address.is_some();
        if usable && !names.contains(&interface.interface_name) {
            names.push(interface.interface_name);
        }
    }
    Ok(names)
}

fn pin_name(kind: &str, index: u32) -> String {
    format!("{kind}-{index}")
}
