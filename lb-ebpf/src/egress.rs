//! What the host's own stack sends about observed and committed flows.

use aya_ebpf::programs::TcContext;
use lb_common::flow::Side;
use lb_common::outcome::{Direction, Outcome};
use lb_common::packet::{Segment, Shape, flags, parse};
use lb_common::rewrite::Changes;
use lb_common::syn::Limits;
use lb_common::word;

use crate::lookup::{Found, find};
use crate::maps;
use crate::packet::Frame;
use crate::steer::mend_checksum;

/// What ends a stream.
const ENDS: u8 = flags::RST | flags::FIN;

/// What becomes of a leaving packet; `None`: it is none of the program's business.
#[inline(always)]
pub fn check(ctx: &TcContext) -> Option<(Direction, Outcome)> {
    // Forwarded packets pass here too, and what ends a peer's stream must. What the host's own
    // stack has made came in on no interface.
    // SAFETY: the context is live for the program's run.
    if unsafe { (*ctx.skb.skb).ingress_ifindex } != 0 {
        return None;
    }
    let segment = maps::scratch()?;
    let mut frame = Frame::new(ctx);
    if parse(&frame, segment) != Shape::Segment || segment.flags & (ENDS | flags::SYN) == 0 {
        return None;
    }
    segment.key.tuple = segment.key.tuple.reversed();
    let found = find(&segment.key)?;
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns.
    let state = unsafe { (*found.flow).word };
    let outcome = if segment.flags & ENDS != 0 {
        guard(state)?
    } else {
        dress(ctx, &mut frame, &found, segment, state)?
    };
    Some((Direction::from(found.side.other()), outcome))
}

/// A packet of a flow may reach the stack in the instant of the handoff, or when a
/// program is missing on an interface; the stack knows no socket for it and answers
/// with a reset, which must not leave. And a daemon killed between the commit and the
/// closing of its sockets leaves it to the stack to end them. Resets of an ended flow
/// are the daemon's own, what ends a reused key is another connection's.
#[inline(always)]
fn guard(state: u64) -> Option<Outcome> {
    let live = state & (word::COMMITTED | word::ENDED | word::REUSED) == word::COMMITTED;
    live.then_some(Outcome::Guarded)
}

/// Makes the SYN to a target ask for no more than the client's leg has.
#[inline(always)]
fn dress(
    ctx: &TcContext,
    frame: &mut Frame<'_, TcContext>,
    found: &Found<'_>,
    segment: &Segment,
    state: u64,
) -> Option<Outcome> {
    if found.side != Side::Target || segment.has(flags::ACK) || state & word::COMMITTED != 0 {
        return None;
    }
    // SAFETY: as in `check`; until the commit nobody else writes the shifts.
    let shifts = unsafe { &mut (*found.flow).shifts };
    let limits = Limits::of(shifts);
    if !limits.concern(segment) {
        return None;
    }
    let header = limits.apply(frame, segment, maps::options()?)?;
    let changes = Changes {
        header,
        ..Changes::default()
    };
    // Half changed it must not leave; it will be sent again.
    if mend_checksum(ctx, segment, &changes).is_none() {
        return Some(Outcome::Malformed);
    }
    Limits::tell(shifts);
    Some(Outcome::Matched)
}
