//! The decision on a parsed packet, the same for both hooks.

use lb_common::door::knocks;
use lb_common::flow::{Flow, Side};
use lb_common::icmp::Report;
use lb_common::outcome::{Direction, Outcome};
use lb_common::packet::{Oddity, Segment, Shape, flags};
use lb_common::track::over;
use lb_common::word;

use crate::forward::mark;
use crate::lookup::{Found, find, is_local};
use crate::observe::{observe, observe_untracked};
use crate::packet::{Frame, Hook};
use crate::report::believable;
use crate::route::LOOPBACK;

/// What is to be done with a packet.
pub enum Decision<'a> {
    /// Counted and left or dropped as the outcome says.
    Leave(Direction, Outcome),
    /// To be rewritten and sent on.
    Forward(Found<'a>, &'a Segment),
    /// A SYN on a live flow, to be answered.
    Challenge(Found<'a>, &'a Segment),
    /// An ICMP error about a packet of the flow's, to be translated and sent on.
    Report(Found<'a>, &'a Segment, Report),
    /// A SYN of no flow: a listener's door may have a say.
    Knock(&'a Segment),
}

/// Decides on a parsed packet; `ifindex` is the interface it came in on.
/// Writes nothing else but the flow's records and its word.
#[inline(always)]
pub fn decide<'a, H: Hook>(
    frame: &Frame<'_, H>,
    ifindex: u32,
    shape: Shape,
    segment: &'a Segment,
) -> Decision<'a> {
    match shape {
        Shape::Other | Shape::Cut => Decision::Leave(Direction::None, Outcome::Other),
        Shape::Odd(oddity) => odd(segment, oddity),
        Shape::Segment => match find(&segment.key) {
            None if knocks(segment) => Decision::Knock(segment),
            None => Decision::Leave(Direction::None, Outcome::NoFlow),
            Some(found) if is_astray(&found, ifindex) => {
                Decision::Leave(Direction::None, Outcome::NoFlow)
            }
            Some(found) => of_flow(frame, ifindex, found, segment),
        },
        Shape::Report(report) => match find(&segment.key) {
            None => Decision::Leave(Direction::None, Outcome::NoFlow),
            Some(found) => about_flow(found, segment, report),
        },
    }
}

/// Whether a packet comes in by the loopback although its end is elsewhere, or the
/// other way round: the end has not sent it. The stack knows what to do with those.
#[inline(always)]
fn is_astray(found: &Found<'_>, ifindex: u32) -> bool {
    is_local(found, found.side) != (ifindex == LOOPBACK)
}

#[inline(always)]
fn of_flow<'a, H: Hook>(
    frame: &Frame<'_, H>,
    ifindex: u32,
    found: Found<'a>,
    segment: &'a Segment,
) -> Decision<'a> {
    let direction = Direction::from(found.side);
    let mut state = state(found.flow);
    if state & word::COMMITTED == 0 {
        state = observe(frame, ifindex, found.flow, found.side, segment);
    }
    if state & word::COMMITTED == 0 {
        return Decision::Leave(direction, Outcome::Observed);
    }
    if state & word::REUSED != 0 || begins_another(&found, segment, state) {
        return match found.side {
            Side::Client => Decision::Leave(Direction::None, Outcome::NoFlow),
            Side::Target => Decision::Leave(direction, Outcome::Ended),
        };
    }
    if state & word::ENDED != 0 {
        return Decision::Leave(direction, Outcome::Ended);
    }
    if segment.has(flags::SYN) {
        return Decision::Challenge(found, segment);
    }
    if segment.ttl <= 1 {
        return Decision::Leave(direction, Outcome::Expired);
    }
    Decision::Forward(found, segment)
}

/// While a flow is observed its sockets live and hear for themselves.
#[inline(always)]
fn about_flow<'a>(found: Found<'a>, segment: &'a Segment, report: Report) -> Decision<'a> {
    let state = state(found.flow);
    let outcome = if state & word::COMMITTED == 0 {
        Outcome::Observed
    } else if state & (word::ENDED | word::REUSED) != 0 {
        Outcome::Ended
    } else if segment.ttl <= 1 {
        Outcome::Expired
    } else if !believable(&found, segment) {
        Outcome::Doubted
    } else {
        return Decision::Report(found, segment, report);
    };
    Decision::Leave(Direction::from(found.side), outcome)
}

/// A client that begins a new connection with the key of one that is over must not
/// wait until that entry is gone; the daemon is told to hurry.
#[inline(always)]
fn begins_another(found: &Found<'_>, segment: &Segment, state: u64) -> bool {
    let bare = segment.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN;
    if !bare || found.side == Side::Target {
        return false;
    }
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns.
    let over = over(unsafe { &*found.flow }, state);
    if over {
        mark(found, word::REUSED, word::REUSED);
    }
    over
}

/// Anything but a plain segment never reaches the stack on a live flow: the stack
/// has no socket for it and would answer with a reset.
#[inline(always)]
fn odd(segment: &Segment, oddity: Oddity) -> Decision<'_> {
    let Some(found) = find(&segment.key) else {
        return match oddity {
            // The stack drops it.
            Oddity::Malformed => Decision::Leave(Direction::None, Outcome::NoFlow),
            Oddity::Fragment | Oddity::Headers if knocks(segment) => Decision::Knock(segment),
            Oddity::Fragment | Oddity::Headers => Decision::Leave(Direction::None, Outcome::NoFlow),
        };
    };
    let direction = Direction::from(found.side);
    // To the stack it is as good as any other, and its data may reach the socket.
    if state(found.flow) & word::COMMITTED == 0 && !observe_untracked(found.flow) {
        return Decision::Leave(direction, Outcome::Observed);
    }
    Decision::Leave(
        direction,
        match oddity {
            Oddity::Fragment => Outcome::Fragment,
            Oddity::Headers => Outcome::Headers,
            Oddity::Malformed => Outcome::Malformed,
        },
    )
}

#[inline(always)]
fn state(flow: *mut Flow) -> u64 {
    // SAFETY: an element of FLOWS (lookup.rs), valid until the program returns;
    // volatile, because observe.rs must not be given a value read earlier.
    unsafe { (&raw const (*flow).word).read_volatile() }
}
