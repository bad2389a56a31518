//! What may be believed of a packet before its numbers are recorded.
//!
//! Anyone can send a packet with a flow's addresses; only one whose numbers fit
//! what both ends have said may move the records that handoff, resets and
//! closing are decided on. A wrong refusal costs a record, never a packet.

use crate::flow::{Flow, SCALE_MASK, Side};
use crate::packet::{Segment, flags};
use crate::seq::after;
use crate::word;

/// While observing: how far beyond the recorded end a segment may reach; more
/// than the balancer's sockets ever announce.
pub const OBSERVED_WINDOW: u32 = 1 << 20;
/// After the commit: added to the receiver's window, because the balancer may
/// have promised more before; its sockets' receive buffers are no larger.
pub const WINDOW_SLACK: u32 = 1 << 18;
/// How far back a number may lie: old, but of this connection.
const PAST: u32 = 1 << 30;

/// Whether an observed segment continues what was recorded.
#[inline(always)]
pub fn fits_observed(segment: &Segment, passed_end: u32, last_ack: u32) -> bool {
    within(segment.end(), passed_end, OBSERVED_WINDOW)
        && (!segment.has(flags::ACK) || within(segment.ack, last_ack, PAST))
}

/// Whether a segment of a committed flow lies within its receiver's window and
/// acknowledges only what the receiver has sent.
#[inline(always)]
pub fn fits_committed(flow: &Flow, side: Side, segment: &Segment) -> bool {
    let far = flow.halves[side.other().index()];
    let shift = flow.shifts.seq[side.index()];
    let back = flow.shifts.seq[side.other().index()];
    let scale = flow.shifts.scale_sent[side.other().index()] & SCALE_MASK;
    let expected = far.last_ack.wrapping_sub(shift);
    let window = (far.window << scale).wrapping_add(WINDOW_SLACK);
    within(segment.end(), expected, window)
        && within(segment.ack, far.passed_end.wrapping_add(back), 0)
}

/// The sequence number that a reset from `side` must have to be believed:
/// exactly what its receiver last acknowledged (RFC 5961 section 3.2).
#[inline(always)]
pub fn reset_expected(flow: &Flow, side: Side) -> u32 {
    flow.halves[side.other().index()]
        .last_ack
        .wrapping_sub(flow.shifts.seq[side.index()])
}

/// Whether a report to `side` about a packet of its own, with this sequence number as
/// `side` has sent it, can be true: sent, and not acknowledged long ago. The end that
/// hears it asks more precisely.
#[inline(always)]
pub fn fits_report(flow: &Flow, side: Side, seq: u32) -> bool {
    let acknowledged = reset_expected(flow, side);
    let sent = flow.halves[side.index()].passed_end;
    !after(acknowledged.wrapping_sub(WINDOW_SLACK), seq) && !after(seq, sent)
}

/// Whether everything `side` has sent, its FIN included, was acknowledged.
#[inline(always)]
pub fn all_acknowledged(flow: &Flow, side: Side) -> bool {
    !after(
        flow.halves[side.index()].passed_end,
        reset_expected(flow, side),
    )
}

/// Whether an acknowledgment from the other end, in its own numbers, covers
/// everything that `side` has sent.
#[inline(always)]
pub fn acknowledges(flow: &Flow, side: Side, ack: u32) -> bool {
    let position = ack.wrapping_sub(flow.shifts.seq[side.index()]);
    !after(flow.halves[side.index()].passed_end, position)
}

/// Whether a flow with this state is over: nothing of it can come any more but what
/// was sent before. Then a SYN with its key begins another connection.
#[inline(always)]
pub fn over(flow: &Flow, state: u64) -> bool {
    if state & (word::ENDED | word::RST | word::RST << word::TARGET_SHIFT) != 0 {
        return true;
    }
    word::finishing(state)
        && all_acknowledged(flow, Side::Client)
        && all_acknowledged(flow, Side::Target)
}

#[inline(always)]
fn within(position: u32, reference: u32, ahead: u32) -> bool {
    position.wrapping_sub(reference).wrapping_add(PAST) <= PAST + ahead
}
