//! The judgment of a handoff: pure, from what was read to commit or don't.
//!
//! Everything here was read after the state word, so if the word is still the
//! same at the swap, no packet that carries anything came in between.

use lb_common::flow::{BLANK_SACK, Flow, LOCAL, Shifts, Side};
use lb_common::word;

use super::socket::{Positions, option};
use super::types::{Handoff, Refusal};

/// What the balancer promises each side, in bytes, so that the other end need not take
/// much more at once than it offers.
pub(super) const PROMISED_WINDOW: u32 = 64 * 1024;
/// A peer whose window is below this keeps the connection in userspace: it would
/// have to drop much of what the other side was allowed to send.
const LEAST_WINDOW: u32 = PROMISED_WINDOW / 2;
/// Bytes of the timestamps option, with padding, that shrink `snd_mss`.
const TIMESTAMPS_LENGTH: u32 = 12;
/// ESTABLISHED (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;

/// One leg, as its socket shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    /// Where the streams stand.
    pub(super) at: Positions,
    /// Bytes of the unread ones that the relay has passed on all the same.
    pub(super) ahead: u32,
    /// The socket's state.
    pub(super) state: u8,
    /// Negotiated options, see [`option`].
    pub(super) options: u8,
    /// Scale of the peer's windows.
    pub(super) peer_scale: u8,
    /// Scale the balancer announced.
    pub(super) own_scale: u8,
    /// Largest segment the balancer may send, options deducted.
    pub(super) send_mss: u32,
    /// Largest segment the balancer announced.
    pub(super) announced_mss: u32,
    /// The balancer's timestamp clock on this leg.
    pub(super) clock: u32,
}

/// Decides on what was read; the shifts if the moment is right.
pub(super) fn judge(flow: &Flow, client: &Leg, target: &Leg) -> Result<Shifts, Handoff> {
    fits(client, target)?;
    quiet(flow, client, Side::Client)?;
    quiet(flow, target, Side::Target)?;
    let local = flow.shifts.scale_announced.map(|flags| flags & LOCAL);
    let stamped = client.options & option::TIMESTAMPS != 0;
    Ok(Shifts {
        seq: [
            target.at.sent.wrapping_sub(client.at.received),
            client.at.sent.wrapping_sub(target.at.received),
        ],
        stamp: match stamped {
            true => [
                target
                    .clock
                    .wrapping_sub(flow.halves[Side::Client.index()].stamp),
                client
                    .clock
                    .wrapping_sub(flow.halves[Side::Target.index()].stamp),
            ],
            false => [0, 0],
        },
        scale_sent: [client.peer_scale, target.peer_scale],
        scale_announced: [
            client.own_scale | blank_sack(client, target) | local[0],
            target.own_scale | blank_sack(target, client) | local[1],
        ],
        ifindex: flow.shifts.ifindex,
    })
}

/// What will not change for the life of the connection.
fn fits(client: &Leg, target: &Leg) -> Result<(), Handoff> {
    let either = client.options | target.options;
    let differ = client.options ^ target.options;
    if either & (option::ECN | option::USEC_TS) != 0 || differ & option::TIMESTAMPS != 0 {
        return Err(Handoff::Never(Refusal::Options));
    }
    let takes = |leg: &Leg| takes(leg.options, leg.send_mss);
    if client.announced_mss > takes(target) || target.announced_mss > takes(client) {
        return Err(Handoff::Never(Refusal::Mtu));
    }
    Ok(())
}

/// Whether one leg stands still: everything passed on, everything acknowledged, and
/// the program has seen just what the socket has.
fn quiet(flow: &Flow, leg: &Leg, side: Side) -> Result<(), Handoff> {
    let pending = Err(Handoff::NotNow(Refusal::Pending));
    if leg.state != ESTABLISHED || word::closing(flow.word) {
        return Err(Handoff::Never(Refusal::Pending));
    }
    if flow.word & word::UNTRACKED != 0 {
        return Err(Handoff::Never(Refusal::Unobserved));
    }
    if leg.at.unread != leg.ahead || leg.at.unacknowledged != 0 {
        return pending;
    }
    // Everything sent was acknowledged, so packets have come; not by the program.
    if flow.word & word::of(side, word::SEEN) == 0 {
        return Err(Handoff::Never(Refusal::Unobserved));
    }
    if leg.options & option::TIMESTAMPS != 0 && flow.word & word::of(side, word::STAMPED) == 0 {
        return Err(Handoff::Never(Refusal::Unobserved));
    }
    let half = &flow.halves[side.index()];
    if half.passed_end != leg.at.received || half.last_ack != leg.at.sent {
        return pending;
    }
    if u64::from(half.window) << leg.peer_scale < u64::from(LEAST_WINDOW) {
        return Err(Handoff::NotNow(Refusal::Window));
    }
    Ok(())
}

/// The word that was judged is older than what the sockets said: a packet that they have
/// heard of may have come in between. Only if the word is still the same was it never
/// seen.
pub(super) fn unobserved(judged: u64, now: u64) -> Handoff {
    match now == judged {
        true => Handoff::Never(Refusal::Unobserved),
        false => Handoff::NotNow(Refusal::Pending),
    }
}

/// The largest segment the far end of a leg takes, as an MSS is announced.
pub(super) fn takes(options: u8, send_mss: u32) -> u32 {
    match options & option::TIMESTAMPS {
        0 => send_mss,
        _ => send_mss + TIMESTAMPS_LENGTH,
    }
}

/// Blocks from `near` mean nothing to `far` if it has not negotiated them.
fn blank_sack(near: &Leg, far: &Leg) -> u8 {
    if near.options & option::SACK != 0 && far.options & option::SACK == 0 {
        BLANK_SACK
    } else {
        0
    }
}
