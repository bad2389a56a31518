//! From a decision to a packet on its way: what differs between XDP and TC.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::flow::Flow;
use lb_common::icmp::Report;
use lb_common::outcome::{Direction, Outcome};
use lb_common::packet::{ETHERNET, Oddity, Packet, Segment, Shape, TCP, TCP_V4, TCP_V6, parse};
use lb_common::rewrite::{Changes, Translation, challenge, finish_checksum, rewrite};

use crate::decide::{Decision, decide};
use crate::door;
use crate::forward::{account, challenge_numbers, rested};
use crate::lookup::{Found, is_local};
use crate::maps;
use crate::packet::{Frame, Hook};
use crate::report;
use crate::route::{self, LOOPBACK, Way};

/// Ethernet, IPv6 and the longest TCP header.
const HEADERS: u32 = (TCP_V6 + 60) as u32;
/// Offset of the checksum in a TCP header.
pub const CHECKSUM: usize = 16;

/// Runs a packet through at the XDP hook.
#[inline(always)]
pub fn xdp(ctx: &XdpContext) -> (Direction, Outcome) {
    let mut frame = Frame::new(ctx);
    let Some(segment) = maps::scratch() else {
        return (Direction::None, Outcome::Other);
    };
    let ifindex = ctx.ingress_ifindex() as u32;
    let shape = parse(&frame, segment);
    match decide(&frame, ifindex, shape, segment) {
        Decision::Leave(direction, outcome) => (direction, outcome),
        Decision::Challenge(found, _) | Decision::Forward(found, _)
            if ifindex != expected(&found) =>
        {
            (Direction::from(found.side), Outcome::Deferred)
        }
        Decision::Knock(segment) => (Direction::None, door::look(ctx, segment)),
        Decision::Challenge(found, segment) => (
            Direction::from(found.side),
            xdp_challenge(&mut frame, &found, segment).unwrap_or(Outcome::Malformed),
        ),
        Decision::Report(found, ..) => (Direction::from(found.side), Outcome::Deferred),
        Decision::Forward(found, segment) => (
            Direction::from(found.side),
            xdp_forward(ctx, &mut frame, &found, segment),
        ),
    }
}

/// Where TC has seen this end's packets come in. Elsewhere the route has changed, or the
/// driver has put a VLAN's tag aside, where XDP cannot see it: TC knows.
#[inline(always)]
fn expected(found: &Found<'_>) -> u32 {
    // SAFETY: an element of FLOWS (lookup.rs).
    unsafe { (*found.flow).shifts.ifindex[found.side.index()] }
}

#[inline(always)]
fn xdp_challenge<H: Hook>(
    frame: &mut Frame<'_, H>,
    found: &Found<'_>,
    segment: &Segment,
) -> Option<Outcome> {
    let changes = answer(frame, found, segment)?;
    finish_checksum(frame, segment, &changes)?;
    Some(Outcome::Challenged)
}

/// Asks the routing table for the next hop first; without an answer the packet is
/// left untouched to the TC program behind.
///
/// So is the packet of a flow that has carried nothing new for a while: here nobody
/// would notice that the next hop has another hardware address by now. There the
/// neighbour layer sends it, and asks. An end on this host is out of reach from here.
#[inline(always)]
fn xdp_forward(
    ctx: &XdpContext,
    frame: &mut Frame<'_, XdpContext>,
    found: &Found<'_>,
    segment: &Segment,
) -> Outcome {
    if rested(found) || is_local(found, found.side.other()) {
        return Outcome::Deferred;
    }
    let leg = translation(found).leg;
    let length = headers(segment) + segment.payload;
    let Some(hop) = route::resolved(ctx, segment.family, leg, length) else {
        return Outcome::Deferred;
    };
    // An interface without XDP would lose the packet; TC reaches every one.
    if maps::DEVICES.get_ifindex(hop.ifindex).is_none() {
        return Outcome::Deferred;
    }
    let Some(changes) = translate(frame, found, segment) else {
        return Outcome::Malformed;
    };
    account(found, segment, ctx.ingress_ifindex() as u32);
    if finish_checksum(frame, segment, &changes).is_none()
        || frame.store(0, hop.dmac).is_none()
        || frame.store(6, hop.smac).is_none()
    {
        return Outcome::Malformed;
    }
    // SAFETY: a helper of two integers. XDP_REDIRECT is returned by main.rs.
    unsafe { bpf_redirect(hop.ifindex, 0) };
    Outcome::Forwarded
}

/// Runs a packet through at the TC hook; last, the action of a sent packet.
#[inline(always)]
pub fn tc(ctx: &TcContext) -> (Direction, Outcome, i32) {
    let mut frame = Frame::new(ctx);
    let Some(segment) = maps::scratch() else {
        return (Direction::None, Outcome::Other, TC_ACT_SHOT);
    };
    // SAFETY: the context is live for the program's run.
    let (ifindex, tagged) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).vlan_present) };
    // Of a VLAN: the same addresses are others there, and its interface's business.
    if tagged != 0 {
        return (Direction::None, Outcome::Other, TC_ACT_SHOT);
    }
    let shape = parse_linear(ctx, &mut frame, segment);
    match decide(&frame, ifindex, shape, segment) {
        Decision::Leave(direction, outcome) => (direction, outcome, TC_ACT_SHOT),
        Decision::Knock(segment) => {
            let outcome = door::enter(ctx, segment);
            (Direction::None, outcome, TC_ACT_SHOT)
        }
        Decision::Challenge(found, segment) => {
            let changes = answer(&mut frame, &found, segment);
            let (outcome, sent) =
                match changes.and_then(|changes| mend_checksum(ctx, segment, &changes)) {
                    Some(()) => (Outcome::Challenged, route::send(ctx, ifindex, None)),
                    None => (Outcome::Malformed, TC_ACT_SHOT),
                };
            (Direction::from(found.side), outcome, sent)
        }
        Decision::Report(found, segment, report) => {
            let (outcome, sent) = tc_report(ctx, &mut frame, &found, segment, report);
            (Direction::from(found.side), outcome, sent)
        }
        Decision::Forward(found, segment) => {
            let (outcome, sent) = tc_forward(ctx, &mut frame, &found, segment, ifindex);
            (Direction::from(found.side), outcome, sent)
        }
    }
}

#[inline(always)]
fn tc_forward(
    ctx: &TcContext,
    frame: &mut Frame<'_, TcContext>,
    found: &Found<'_>,
    segment: &Segment,
    ifindex: u32,
) -> (Outcome, i32) {
    let (to, hop) = match way(ctx, found, segment, longest(ctx, segment)) {
        Way::Open(to, hop) => (to, hop),
        Way::Narrow(mtu) => {
            let sent = report::refuse(ctx, segment, mtu, ifindex);
            return (Outcome::Narrow, sent);
        }
        Way::Closed => return (Outcome::Unroutable, TC_ACT_SHOT),
    };
    // What a dropped packet says has told its receiver nothing.
    let Some(changes) = translate(frame, found, segment) else {
        return (Outcome::Malformed, TC_ACT_SHOT);
    };
    account(found, segment, ifindex);
    match mend_checksum(ctx, segment, &changes) {
        Some(()) => (Outcome::Forwarded, route::send(ctx, to, hop)),
        None => (Outcome::Malformed, TC_ACT_SHOT),
    }
}

/// Reports are short: no way is too narrow for one.
#[inline(always)]
fn tc_report(
    ctx: &TcContext,
    frame: &mut Frame<'_, TcContext>,
    found: &Found<'_>,
    segment: &Segment,
    report: Report,
) -> (Outcome, i32) {
    let Way::Open(to, hop) = way(ctx, found, segment, 1) else {
        return (Outcome::Unroutable, TC_ACT_SHOT);
    };
    if report::pass_on(frame, found, segment).is_none() {
        return (Outcome::Malformed, TC_ACT_SHOT);
    }
    let outcome = match report {
        Report::TooBig => Outcome::TooBig,
        Report::Unreachable => Outcome::Unreachable,
    };
    (outcome, route::send(ctx, to, hop))
}

/// The way to the far end, for a packet of this length.
#[inline(always)]
fn way(ctx: &TcContext, found: &Found<'_>, segment: &Segment, length: u32) -> Way {
    let far = found.side.other();
    // The routing table has nothing to say about those, and no packet is too long.
    if is_local(found, far) {
        return Way::Open(LOOPBACK, None);
    }
    // SAFETY: an element of FLOWS (lookup.rs); a plain aligned field.
    let learned = unsafe { (*found.flow).shifts.ifindex[far.index()] };
    route::way(ctx, segment.family, translation(found).leg, length, learned)
}

/// Length of the IP packet, of one of GSO of the longest it will become.
#[inline(always)]
fn longest(ctx: &TcContext, segment: &Segment) -> u32 {
    // SAFETY: the context is live for the program's run.
    let size = unsafe { (*ctx.skb.skb).gso_size };
    headers(segment)
        + match size {
            0 => segment.payload,
            size => size,
        }
}

/// Bytes before the payload, from the IP header on.
#[inline(always)]
fn headers(segment: &Segment) -> u32 {
    (segment.tcp() - ETHERNET + segment.header()) as u32
}

/// Parses; headers that a driver has left in pages are pulled into the linear part
/// first, where the kernel has not done so by itself.
#[inline(always)]
fn parse_linear<'a>(
    ctx: &'a TcContext,
    frame: &mut Frame<'a, TcContext>,
    segment: &mut Segment,
) -> Shape {
    let linear = ctx.data_end() - ctx.data();
    if linear >= TCP_V4 + TCP {
        let shape = parse(frame, segment);
        if shape != Shape::Odd(Oddity::Malformed)
            && shape != Shape::Cut
            && (shape != Shape::Segment || segment.tcp() + segment.header() <= linear)
        {
            return shape;
        }
    }
    let wanted = if ctx.len() < HEADERS {
        ctx.len()
    } else {
        HEADERS
    };
    if (linear as u32) < wanted {
        // A failure leaves the packet as it was, to be parsed as such.
        let _ = ctx.pull_data(wanted);
        *frame = Frame::new(ctx);
    }
    parse(frame, segment)
}

/// Mends the TCP checksum, also one the hardware is to complete. Packet pointers are
/// dead after.
#[inline(always)]
pub fn mend_checksum(ctx: &TcContext, segment: &Segment, changes: &Changes) -> Option<()> {
    let at = segment.tcp() + CHECKSUM;
    let pseudo = changes.pseudo.to_wsum();
    let header = changes.header.to_wsum();
    ctx.l4_csum_replace(at, 0, pseudo, u64::from(BPF_F_PSEUDO_HDR))
        .and_then(|()| ctx.l4_csum_replace(at, 0, header, 0))
        .ok()
}

#[inline(always)]
pub fn translation<'a>(found: &Found<'a>) -> Translation<'a> {
    // SAFETY: an element of FLOWS (lookup.rs); its shifts are constant now.
    let flow: &'a Flow = unsafe { &*found.flow };
    Translation::new(&found.client.tuple, flow, found.side)
}

#[inline(always)]
fn translate<H: Hook>(
    frame: &mut Frame<'_, H>,
    found: &Found<'_>,
    segment: &Segment,
) -> Option<Changes> {
    rewrite(frame, segment, maps::options()?, &translation(found))
}

/// Turns a SYN into a challenge ACK back to its sender.
#[inline(always)]
fn answer<H: Hook>(
    frame: &mut Frame<'_, H>,
    found: &Found<'_>,
    segment: &Segment,
) -> Option<Changes> {
    // SAFETY: an element of FLOWS (lookup.rs).
    let flow: &Flow = unsafe { &*found.flow };
    let (seq, ack, window) = challenge_numbers(flow, found.side);
    let to: [u8; 6] = frame.load(0)?;
    let from: [u8; 6] = frame.load(6)?;
    frame.store(0, from)?;
    frame.store(6, to)?;
    challenge(frame, segment, maps::options()?, seq, ack, window)
}
