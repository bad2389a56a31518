//! A packet of a flow that is not committed: record, then let it pass.

use lb_common::flow::{Flow, Side};
use lb_common::packet::{Packet, Segment, flags};
use lb_common::rewrite::timestamp;
use lb_common::seq::after;
use lb_common::track::fits_observed;
use lb_common::word;

use crate::{atomic, maps};

/// Records the packet and returns the state word that decides about it: without
/// [`word::COMMITTED`] the packet is the stack's.
///
/// The records come before the atomic on the word, so whoever reads a word that
/// counts this packet also sees what the packet recorded.
#[inline(always)]
pub fn observe<P: Packet>(
    packet: &P,
    ifindex: u32,
    flow: *mut Flow,
    side: Side,
    segment: &Segment,
) -> u64 {
    // SAFETY: `flow` is an element of FLOWS found for this packet (lookup.rs),
    // valid until the program returns; `word` is its first, 8-byte aligned field.
    let at = unsafe { &raw mut (*flow).word };
    // SAFETY: as above.
    let before = unsafe { at.read_volatile() };
    let seen = record(packet, flow, side, segment, before);
    if seen != 0 {
        // Where this side's packets come from, the other's will be sent.
        // SAFETY: as above; a plain aligned field.
        unsafe { (*flow).shifts.ifindex[side.index()] = ifindex };
    }
    let news = seen & !before;
    if news != 0 {
        // SAFETY: as above.
        unsafe { atomic::fetch_or(at, news) };
    }
    if segment.moves() {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(at, word::PACKET) }
    } else {
        // SAFETY: as above.
        unsafe { at.read_volatile() }
    }
}

/// For a packet whose numbers cannot be told: from now on the records prove nothing,
/// and a commit under way fails. True if the flow was committed before.
#[inline(always)]
pub fn observe_untracked(flow: *mut Flow) -> bool {
    // SAFETY: as in `observe`.
    let before = unsafe { atomic::fetch_or(&raw mut (*flow).word, word::UNTRACKED) };
    before & word::COMMITTED != 0
}

/// Takes what the segment says into the flow's half; returns flags to be set.
#[inline(always)]
fn record<P: Packet>(
    packet: &P,
    flow: *mut Flow,
    side: Side,
    segment: &Segment,
    before: u64,
) -> u64 {
    // SAFETY: as in `observe`; aligned 32-bit fields. Positions are raised atomically;
    // of windows and stamps another CPU's may stay, which is as new.
    let half = unsafe { &mut (*flow).halves[side.index()] };
    if before & word::of(side, word::SEEN) == 0 {
        if !segment.has(flags::ACK) || segment.has(flags::RST) {
            return 0;
        }
        half.passed_end = segment.end();
        half.last_ack = segment.ack;
    } else if !fits_observed(segment, half.passed_end, half.last_ack) {
        return 0;
    }
    let mut news = word::of(side, word::SEEN);
    // SAFETY: a field of the entry, as above.
    if !unsafe { atomic::raise(&raw mut half.passed_end, segment.end()) } {
        // The handoff would overlook a packet.
        news |= word::UNTRACKED;
    }
    if segment.has(flags::ACK) {
        // SAFETY: as above. Lost too often, it is what the next one mends.
        unsafe { atomic::raise(&raw mut half.last_ack, segment.ack) };
        // The window of a SYN is not scaled (RFC 7323 section 2.2).
        if !segment.has(flags::SYN) {
            half.window = segment.window as u32;
        }
    }
    if segment.has(flags::FIN) {
        news |= word::of(side, word::FIN);
    }
    if segment.has(flags::RST) {
        news |= word::of(side, word::RST);
    }
    if let Some(stamp) = stamp(packet, segment) {
        if before & word::of(side, word::STAMPED) == 0 || after(stamp, half.stamp) {
            half.stamp = stamp;
        }
        news |= word::of(side, word::STAMPED);
    }
    news
}

#[inline(always)]
fn stamp<P: Packet>(packet: &P, segment: &Segment) -> Option<u32> {
    timestamp(packet, segment, maps::options()?)
}
