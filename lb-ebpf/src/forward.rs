//! A packet of a committed flow: keep the flow's records, say how to rewrite it.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::event::Event;
use lb_common::flow::{Flow, SCALE_MASK, Side};
use lb_common::packet::{Segment, flags};
use lb_common::seq::after;
use lb_common::track::{acknowledges, fits_committed, reset_expected};
use lb_common::word;

use crate::atomic;
use crate::lookup::Found;
use crate::maps::EVENTS;

/// A flow without anything new for longer than this has rested, in nanoseconds: longer
/// than a peer that is there leaves data unacknowledged.
const REST: u64 = 1_000_000_000;

/// Whether the flow has carried nothing new for a while.
#[inline(always)]
pub fn rested(found: &Found<'_>) -> bool {
    // SAFETY: as in `account`.
    let seen = unsafe { (*found.flow).last_seen };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    now.saturating_sub(seen) > REST
}

/// Books a packet that is going to be forwarded; `ifindex` is where it came in.
#[inline(always)]
pub fn account(found: &Found<'_>, segment: &Segment, ifindex: u32) {
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns.
    // Its fields are plain integers; two CPUs on one side's packets at once can
    // cost a count. Positions are raised atomically.
    let flow = unsafe { &mut *found.flow };
    let near = found.side.index();
    flow.packets[near] += 1;
    flow.bytes[near] += segment.payload as u64;
    if segment.has(flags::RST) {
        if segment.seq == reset_expected(flow, found.side) {
            let reset = word::of(found.side, word::RST);
            mark(found, reset, reset);
        }
        return;
    }
    if segment.has(flags::ACK) && fits_committed(flow, found.side, segment) {
        record(flow, found, segment, ifindex);
    }
}

#[inline(always)]
fn record(flow: &mut Flow, found: &Found<'_>, segment: &Segment, ifindex: u32) {
    let half = &mut flow.halves[found.side.index()];
    let fresh = after(segment.end(), half.passed_end);
    if fresh || after(segment.ack, half.last_ack) {
        // The sender's path may have moved; see route.rs for who needs to know.
        flow.shifts.ifindex[found.side.index()] = ifindex;
    }
    // The last packets of a flow have none behind them that would mend a lost record: its
    // end would never be known.
    // SAFETY: fields of an element of FLOWS, see `account`.
    unsafe {
        atomic::raise(&raw mut half.passed_end, segment.end());
        atomic::raise(&raw mut half.last_ack, segment.ack);
    }
    half.window = segment.window as u32;
    if fresh && segment.payload > 0 {
        // SAFETY: a helper without arguments.
        flow.last_seen = unsafe { bpf_ktime_get_coarse_ns() };
    }
    // Its receiver ignores one that lies before what it has acknowledged.
    let acknowledged = reset_expected(flow, found.side);
    if segment.has(flags::FIN) && !after(acknowledged, segment.end()) {
        let fin = word::of(found.side, word::FIN);
        mark(found, fin, fin | waits(flow, found.side, segment));
    }
}

/// A target that has not seen the client's FIN when it sends its own is the one that
/// closes first, or at the same time. One flag with its FIN in one step, so that
/// a repeated FIN, which may acknowledge more, does not matter.
#[inline(always)]
fn waits(flow: &Flow, side: Side, segment: &Segment) -> u64 {
    let answers = flow.word & word::FIN != 0 && acknowledges(flow, Side::Client, segment.ack);
    match side {
        Side::Target if !answers => word::TARGET_WAITS,
        Side::Target | Side::Client => 0,
    }
}

/// Sets flags, if `first` among them is not set yet, and tells the daemon.
#[inline(always)]
pub fn mark(found: &Found<'_>, first: u64, flags: u64) {
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns; `word`
    // is the first, 8-byte aligned field.
    let at = unsafe { &raw mut (*found.flow).word };
    // SAFETY: as above.
    if unsafe { at.read_volatile() } & first != 0 {
        return;
    }
    // SAFETY: as above.
    let before = unsafe { atomic::fetch_or(at, flags) };
    if before & first != 0 {
        return;
    }
    // SAFETY: as in `account`; the id never changes.
    let id = unsafe { (*found.flow).id };
    // A full buffer loses a hint; the daemon's scan finds the flag.
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(Event {
            client: *found.client,
            id,
            word: before | flags,
        });
        entry.submit(0);
    }
}

/// Numbers of a challenge ACK to the end that sent a SYN on a live flow: sequence
/// and acknowledgment number, window field.
#[inline(always)]
pub fn challenge_numbers(flow: &Flow, side: Side) -> (u32, u32, u16) {
    let near = flow.halves[side.index()];
    let far = flow.halves[side.other().index()];
    let scale_sent = flow.shifts.scale_sent[side.other().index()] & SCALE_MASK;
    let announced = flow.shifts.scale_announced[side.index()] & SCALE_MASK;
    let window = (far.window << scale_sent) >> announced;
    (
        near.last_ack,
        near.passed_end,
        if window > 0xffff {
            0xffff
        } else {
            window as u16
        },
    )
}
