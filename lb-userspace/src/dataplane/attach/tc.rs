//! The TC hooks: tcx links from Linux 6.6 on, filters of a clsact qdisc before.
//!
//! Either outlives the daemon and is replaced in one step by the next. A link is
//! pinned; a filter is known by its place, the handle being the pin directory's.

use std::mem;
use std::path::Path as FsPath;

use anyhow::Context;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{Link, LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use nix::net::if_::if_nameindex;

use super::netlink::{self, Filter, Parent};
use super::{PinDir, pin_name};

/// A filter's place among others: early, with room in front.
const PRIORITY: u16 = 10;

/// One of the two hooks of an interface, with its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    /// The program's name in the object.
    pub(super) program: &'static str,
    /// What the pinned link's name begins with.
    pub(super) pin: &'static str,
    at: TcAttachType,
    parent: Parent,
}

/// Egress first: the guard must be there before the first flow is.
pub(super) const HOOKS: [Hook; 2] = [
    Hook {
        program: "limpet_egress",
        pin: "egress",
        at: TcAttachType::Egress,
        parent: Parent::Egress,
    },
    Hook {
        program: "limpet_tc",
        pin: "tc",
        at: TcAttachType::Ingress,
        parent: Parent::Ingress,
    },
];

/// Attaches a program, or replaces the one that an earlier daemon has attached.
/// Answers how: by "tcx" or "clsact".
pub(super) fn attach(
    program: &mut SchedClassifier,
    pins: &PinDir,
    hook: Hook,
    name: &str,
    index: u32,
) -> anyhow::Result<&'static str> {
    let pin = pins.pin(&pin_name(hook.pin, index));
    if let Ok(old) = PinnedLink::from_pin(&pin)
        && let Ok(link) = FdLink::from(old).try_into()
        && let Ok(id) = program.attach_to_link(link)
    {
        // The pin alone holds the link.
        drop(program.take_link(id)?);
        return Ok("tcx");
    }
    // A link that somebody has cut off cannot be used again.
    let _ = std::fs::remove_file(&pin);
    match link(program, &pin, hook, name) {
        Err(error) if is_unknown(&error) => {
            filter(program, pins, hook, name).context("attaching to TC (clsact)")?;
            Ok("clsact")
        }
        result => result.map(|()| "tcx"),
    }
}

/// Whether the program with this id is where [`attach`] has put it.
pub(super) fn is_attached(program: u32, pins: &PinDir, hook: Hook, name: &str, index: u32) -> bool {
    if pins.pin(&pin_name(hook.pin, index)).exists() {
        return is_linked(program, hook, name);
    }
    let filter = Filter {
        index,
        parent: hook.parent,
        priority: PRIORITY,
        handle: pins.handle(),
    };
    // Who cannot see cannot say that it is gone.
    netlink::program_of_filter(&filter).map_or(true, |found| found == Some(program))
}

/// Removes a pin directory's filters from all interfaces but those of `keep`. There
/// are none where the kernel has links.
pub(super) fn remove_filters(handle: u32, keep: &[u32]) {
    let Ok(interfaces) = if_nameindex() else {
        return;
    };
    for interface in &interfaces {
        let Ok(name) = interface.name().to_str() else {
            continue;
        };
        if keep.contains(&interface.index()) {
            continue;
        }
        for hook in HOOKS {
            let link = SchedClassifierLink::attached(
                name,
                hook.at,
                PRIORITY,
                TcHandle::from(handle),
                None,
            );
            // Most interfaces have none.
            let _ = link.map(Link::detach);
        }
    }
}

fn link(program: &mut SchedClassifier, pin: &FsPath, hook: Hook, name: &str) -> anyhow::Result<()> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(name, hook.at, options)
        .context("attaching to TC (tcx)")?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)
        .with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

/// A kernel that does not know tcx takes its attach type for nonsense.
fn is_unknown(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ProgramError>().is_some_and(|error| {
        matches!(error, ProgramError::SyscallError(error)
            if error.io_error.raw_os_error() == Some(libc::EINVAL))
    })
}

/// Changes the filter that is there, in one step for the packets (`cls_bpf_change`
/// in the kernel), or adds one.
fn filter(
    program: &mut SchedClassifier,
    pins: &PinDir,
    hook: Hook,
    name: &str,
) -> anyhow::Result<()> {
    let handle = TcHandle::from(pins.handle());
    let old = SchedClassifierLink::attached(name, hook.at, PRIORITY, handle, None)?;
    let id = match program.attach_to_link(old) {
        Ok(id) => id,
        Err(_) => {
            // It may have one; if it has not now, the filter finds out.
            let _ = qdisc_add_clsact(name);
            let options = NlOptions {
                priority: PRIORITY,
                handle,
                classid: None,
            };
            program.attach_with_options(name, hook.at, TcAttachOptions::Netlink(options))?
        }
    };
    // Dropping it would detach.
    mem::forget(program.take_link(id)?);
    Ok(())
}

/// Whether the tcx hook has the program. A link may still be pinned and be cut off.
fn is_linked(program: u32, hook: Hook, name: &str) -> bool {
    // Without CAP_SYS_ADMIN programs cannot be looked at.
    SchedClassifier::query_tcx(name, hook.at).map_or(true, |(_, programs)| {
        programs.iter().any(|one| one.id() == program)
    })
}
