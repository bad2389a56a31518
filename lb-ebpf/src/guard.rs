//! The egress guard. A packet of a flow may reach the stack in the instant of the
//! handoff, or when a program is missing on an interface; the stack knows no
//! socket for it and answers with a reset, which must not leave.

use aya_ebpf::programs::TcContext;
use lb_common::outcome::Direction;
use lb_common::packet::{Shape, flags, parse};
use lb_common::word;

use crate::lookup::find;
use crate::maps;
use crate::packet::Frame;

/// The direction the reset would have gone if it is to be dropped. Resets of an
/// ended flow are the daemon's own and leave.
#[inline(always)]
pub fn check(ctx: &TcContext) -> Option<Direction> {
    // Forwarded packets pass here too, and a peer's reset must. What the host's own
    // stack has made came in on no interface.
    // SAFETY: the context is live for the program's run.
    if unsafe { (*ctx.skb.skb).ingress_ifindex } != 0 {
        return None;
    }
    let segment = maps::scratch()?;
    if parse(&Frame::new(ctx), segment) != Shape::Segment || !segment.has(flags::RST) {
        return None;
    }
    segment.key.tuple = segment.key.tuple.reversed();
    let found = find(&segment.key)?;
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns.
    let state = unsafe { (*found.flow).word };
    if state & (word::COMMITTED | word::ENDED) != word::COMMITTED {
        return None;
    }
    Some(Direction::from(found.side.other()))
}
