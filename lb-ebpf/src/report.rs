//! ICMP at the TC hook: errors about a flow's packets are sent on to the end that must
//! hear them, and one is made where this host's own way out is the narrow place.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;
use lb_common::flow::Flow;
use lb_common::icmp::{quoted, room, too_big, translate};
use lb_common::packet::{Packet, Segment};
use lb_common::track::fits_report;

use crate::lookup::Found;
use crate::packet::Frame;
use crate::steer::{CHECKSUM, translation};

/// Whether the flow has lately sent what the report quotes.
#[inline(always)]
pub fn believable(found: &Found<'_>, segment: &Segment) -> bool {
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns.
    let flow: &Flow = unsafe { &*found.flow };
    let sent_by = found.side.other();
    let seq = segment.seq.wrapping_add(translation(found).ack);
    fits_report(flow, sent_by, seq)
}

/// Rewrites a report for the end whose packet it quotes.
#[inline(always)]
pub fn pass_on(
    frame: &mut Frame<'_, TcContext>,
    found: &Found<'_>,
    segment: &Segment,
) -> Option<()> {
    translate(frame, segment, &translation(found))
}

/// Turns a segment into the error that says it is too big, and sends it back to where
/// it came from. Nothing of it has been rewritten yet. Packet pointers are dead after.
#[inline(always)]
pub fn refuse(ctx: &TcContext, segment: &Segment, mtu: u32, ifindex: u32) -> i32 {
    match make(ctx, segment, mtu) {
        // SAFETY: a helper of two integers.
        Some(()) => unsafe { bpf_redirect(ifindex, 0) as i32 },
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn make(ctx: &TcContext, segment: &Segment, mtu: u32) -> Option<()> {
    let unfinished = unfinished(ctx, segment)?;
    let quoted = quoted(segment.family) as u32;
    // SAFETY: the context is live for the program's run. What was one of GSO is no more.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, quoted, 0) } != 0 {
        return None;
    }
    let room = room(segment.family) as i32;
    ctx.adjust_room(room, BPF_ADJ_ROOM_MAC, 0).ok()?;
    let mut frame = Frame::new(ctx);
    let to: [u8; 6] = frame.load(0)?;
    let from: [u8; 6] = frame.load(6)?;
    frame.store(0, from)?;
    frame.store(6, to)?;
    too_big(&mut frame, segment, mtu, unfinished)
}

/// Whether the TCP checksum is still to be completed by the hardware, which no field
/// shows: only then the helper leaves it alone when a change of the header is told.
#[inline(always)]
fn unfinished(ctx: &TcContext, segment: &Segment) -> Option<bool> {
    let at = segment.tcp() + CHECKSUM;
    let before: [u8; 2] = Frame::new(ctx).load(at)?;
    ctx.l4_csum_replace(at, 0, 1, 0).ok()?;
    let mut frame = Frame::new(ctx);
    let after = frame.load(at)?;
    frame.store(at, before)?;
    Some(before == after)
}
