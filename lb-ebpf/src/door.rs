//! A SYN of no flow: whether it may reach the stack, and in what form.
//!
//! XDP only turns away. What it lets through meets the TC program behind it, which
//! alone takes tokens: each SYN takes one, whichever way it came.
//!
//! Both are functions of their own, with a stack of their own: the way of a flow's
//! packet has none to spare.
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "keys stay where they are, in a map: by value they would be copied to the stack"
)]

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::door::{Door, Network, Place, Rejection, Source};
use lb_common::outcome::Outcome;
use lb_common::packet::Segment;
use lb_common::rewrite::Changes;
use lb_common::syn::Limits;

use crate::atomic;
use crate::maps::{self, Asked, LISTENERS, NETWORKS, REJECTED, SOURCES};
use crate::packet::Frame;
use crate::route;
use crate::steer::mend_checksum;

/// Attempts to take a token against other CPUs before the source counts as too fast.
const TRIES: usize = 4;
/// BPF_NOEXIST: another CPU may have met the source first.
const NO_EXIST: u64 = 1;
/// `skb->pkt_type` of a frame that is addressed to this interface.
const PACKET_HOST: u32 = 0;

/// At XDP: the same answer as [`enter`]'s if that is a no.
#[inline(never)]
pub fn look(ctx: &XdpContext, segment: &Segment) -> Outcome {
    let Some(asked) = maps::asked() else {
        return Outcome::NoFlow;
    };
    let Some(door) = find(ctx, ctx.ingress_ifindex() as u32, segment, asked) else {
        return Outcome::NoFlow;
    };
    if !allows(door, segment, asked) {
        return reject(door, Rejection::Denied);
    }
    if door.pace.is_limited() {
        asked.source = source(door, segment);
        if !has_token(door, asked) {
            return reject(door, Rejection::Limited);
        }
    }
    Outcome::NoFlow
}

/// At TC, before the stack.
#[inline(never)]
pub fn enter(ctx: &TcContext, segment: &Segment) -> Outcome {
    // SAFETY: the context is live for the program's run.
    let (kind, ifindex) = unsafe { ((*ctx.skb.skb).pkt_type, (*ctx.skb.skb).ifindex) };
    // A port of a bridge sees the frames of others, too.
    if kind != PACKET_HOST {
        return Outcome::NoFlow;
    }
    let Some(asked) = maps::asked() else {
        return Outcome::NoFlow;
    };
    let Some(door) = find(ctx, ifindex, segment, asked) else {
        return Outcome::NoFlow;
    };
    if !allows(door, segment, asked) {
        return reject(door, Rejection::Denied);
    }
    if door.pace.is_limited() {
        asked.source = source(door, segment);
        if !take_token(door, asked) {
            return reject(door, Rejection::Limited);
        }
    }
    if door.has(Door::WITHOUT_ECN) {
        return without_ecn(ctx, segment);
    }
    Outcome::NoFlow
}

/// The door of the listener that the stack would give the SYN to: the one bound to
/// its very address before one bound to all.
#[inline(always)]
fn find<C: EbpfContext>(
    ctx: &C,
    ifindex: u32,
    segment: &Segment,
    asked: &mut Asked,
) -> Option<&'static Door> {
    let tuple = &segment.key.tuple;
    let place = &mut asked.place;
    *place = Place::new(tuple.local, tuple.local_port, segment.family);
    // SAFETY: an element stays readable until the program returns; the daemon
    // replaces elements, it never writes into one.
    if let Some(door) = LISTENERS.get_ptr(&*place).map(|door| unsafe { &*door }) {
        return Some(door);
    }
    place.address = Place::ANYWHERE;
    // SAFETY: as above.
    let door = LISTENERS.get_ptr(&*place).map(|door| unsafe { &*door })?;
    // On a router "all addresses" are this host's, not those it forwards to.
    (!route::is_elsewhere(ctx, ifindex, segment)).then_some(door)
}

#[inline(always)]
fn allows(door: &Door, segment: &Segment, asked: &mut Asked) -> bool {
    if !door.has(Door::RESTRICTED) {
        return true;
    }
    let network = Network {
        number: door.networks,
        family: segment.family as u32,
        source: segment.key.tuple.peer,
    };
    asked.network = Key::new(Network::BITS, network);
    NETWORKS.get(&asked.network).is_some()
}

#[inline(always)]
fn has_token(door: &Door, asked: &Asked) -> bool {
    SOURCES.get_ptr(&asked.source).is_none_or(|due| {
        // SAFETY: an 8-byte aligned element of SOURCES. One that is evicted and used
        // again meanwhile tells about another source, once.
        let due = unsafe { due.read_volatile() };
        door.pace.admits(due, now())
    })
}

/// A source that is not known, or was evicted, begins with a full bucket.
#[inline(always)]
fn take_token(door: &Door, asked: &mut Asked) -> bool {
    let now = now();
    let due = match SOURCES.get_ptr_mut(&asked.source) {
        Some(due) => due,
        None => {
            asked.due = door.pace.next(0, now);
            if SOURCES.insert(&asked.source, &asked.due, NO_EXIST).is_ok() {
                return true;
            }
            // Another CPU was first; a table that cannot take it must not close doors.
            match SOURCES.get_ptr_mut(&asked.source) {
                Some(due) => due,
                None => return true,
            }
        }
    };
    for _ in 0..TRIES {
        // SAFETY: as in `has_token`.
        let before = unsafe { due.read_volatile() };
        if !door.pace.admits(before, now) {
            return false;
        }
        let after = door.pace.next(before, now);
        // SAFETY: as in `has_token`.
        if unsafe { atomic::compare_exchange(due, before, after) } == before {
            return true;
        }
    }
    // As many tokens were taken meanwhile.
    false
}

#[inline(always)]
fn source(door: &Door, segment: &Segment) -> Source {
    Source::of(segment.key.tuple.peer, segment.key.family, door.listener)
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn reject(door: &Door, why: Rejection) -> Outcome {
    if let Some(rejected) = REJECTED.get_ptr_mut(door.listener) {
        // SAFETY: a per-CPU value, as in `maps::count`; the number is an index.
        unsafe { (*rejected).0[why as usize] += 1 };
    }
    match why {
        Rejection::Denied => Outcome::Denied,
        Rejection::Limited => Outcome::Limited,
    }
}

/// Takes an offer of ECN out of a SYN, so that it is answered without (RFC 3168
/// section 6.1.1.1).
#[inline(always)]
fn without_ecn(ctx: &TcContext, segment: &Segment) -> Outcome {
    if !Limits::NONE.concern(segment) {
        return Outcome::NoFlow;
    }
    let mend = |header| {
        let changes = Changes {
            header,
            ..Changes::default()
        };
        mend_checksum(ctx, segment, &changes)
    };
    let mut frame = Frame::new(ctx);
    let changed = maps::options().and_then(|room| Limits::NONE.apply(&mut frame, segment, room));
    match changed.and_then(mend) {
        Some(()) => Outcome::NoFlow,
        // Half changed it must not go on; it will be sent again.
        None => Outcome::Malformed,
    }
}
