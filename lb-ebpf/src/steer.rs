//! From a decision to a packet on its way: what differs between XDP and TC.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT, bpf_fib_lookup as FibLookup};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::flow::{Family, Flow};
use lb_common::outcome::{Direction, Outcome};
use lb_common::packet::{Oddity, Packet, Segment, Shape, TCP, TCP_V4, TCP_V6, parse};
use lb_common::rewrite::{Changes, Translation, challenge, finish_checksum, rewrite};

use crate::decide::{Decision, decide};
use crate::forward::{account, challenge_numbers};
use crate::lookup::Found;
use crate::maps;
use crate::packet::{Frame, Hook};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const PROTOCOL_TCP: u8 = 6;
/// Ethernet, IPv6 and the longest TCP header.
const HEADERS: u32 = (TCP_V6 + 60) as u32;
/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;

/// Runs a packet through at the XDP hook.
#[inline(always)]
pub fn xdp(ctx: &XdpContext) -> (Direction, Outcome) {
    let mut frame = Frame::new(ctx);
    let Some(segment) = maps::scratch() else {
        return (Direction::None, Outcome::Other);
    };
    let ifindex = ctx.ingress_ifindex() as u32;
    let shape = parse(&frame, segment);
    let (found, segment, challenged) = match decide(&frame, ifindex, shape, segment) {
        Decision::Leave(direction, outcome) => return (direction, outcome),
        Decision::Challenge(found, segment) => (found, segment, true),
        Decision::Forward(found, segment) => (found, segment, false),
    };
    let outcome = match challenged {
        true => xdp_challenge(&mut frame, &found, segment).unwrap_or(Outcome::Malformed),
        false => xdp_forward(ctx, &mut frame, &found, segment),
    };
    (Direction::from(found.side), outcome)
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
#[inline(always)]
fn xdp_forward(
    ctx: &XdpContext,
    frame: &mut Frame<'_, XdpContext>,
    found: &Found<'_>,
    segment: &Segment,
) -> Outcome {
    let translation = translation(found);
    let Some(hop) = next_hop(ctx, segment, &translation) else {
        return Outcome::Deferred;
    };
    let Some(changes) = translate(frame, found, segment) else {
        return Outcome::Malformed;
    };
    account(found, segment);
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

#[inline(always)]
fn next_hop(
    ctx: &XdpContext,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<&'static FibLookup> {
    let query = maps::fib_query()?;
    query.ifindex = ctx.ingress_ifindex() as u32;
    query.l4_protocol = PROTOCOL_TCP;
    let (from, to) = (&translation.leg.local, &translation.leg.peer);
    match segment.family {
        Family::V4 => {
            query.family = AF_INET;
            query.__bindgen_anon_3.ipv4_src = from.0[3];
            query.__bindgen_anon_4.ipv4_dst = to.0[3];
        }
        Family::V6 => {
            query.family = AF_INET6;
            query.__bindgen_anon_3.ipv6_src = from.0;
            query.__bindgen_anon_4.ipv6_dst = to.0;
        }
    }
    // SAFETY: the context the hook was given, and a structure of the size told.
    let answer = unsafe { bpf_fib_lookup(ctx.ctx.cast(), query, size_of::<FibLookup>() as i32, 0) };
    (answer == 0).then_some(query)
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
    let (found, segment, challenged) = match decide(&frame, ifindex, shape, segment) {
        Decision::Leave(direction, outcome) => return (direction, outcome, TC_ACT_SHOT),
        Decision::Challenge(found, segment) => (found, segment, true),
        Decision::Forward(found, segment) => (found, segment, false),
    };
    let direction = Direction::from(found.side);
    let (changes, ifindex, outcome) = match challenged {
        true => (
            answer(&mut frame, &found, segment),
            ifindex,
            Outcome::Challenged,
        ),
        false => {
            // SAFETY: an element of FLOWS (lookup.rs).
            let ifindex = unsafe { (*found.flow).shifts.ifindex[found.side.other().index()] };
            let changes = translate(&mut frame, &found, segment);
            // What a dropped packet says has told its receiver nothing.
            if changes.is_some() {
                account(&found, segment);
            }
            (changes, ifindex, Outcome::Forwarded)
        }
    };
    match changes {
        Some(changes) => (direction, outcome, send(ctx, segment, &changes, ifindex)),
        None => (direction, Outcome::Malformed, TC_ACT_SHOT),
    }
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

/// Hands a rewritten packet to the neighbour layer of the interface. Packet pointers
/// are dead after.
#[inline(always)]
fn send(ctx: &TcContext, segment: &Segment, changes: &Changes, ifindex: u32) -> i32 {
    if mend_checksum(ctx, segment, changes).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: no parameters given: the helper asks the routing table by itself.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
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
fn translation<'a>(found: &Found<'a>) -> Translation<'a> {
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
