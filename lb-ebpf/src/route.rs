//! The way out: interface and next hop of a leg, asked of the routing table, as the
//! balancer's own socket would be routed. What it answers is believed for a few ticks of
//! the clock: nobody need tell the program of a route that changes, and a packet costs
//! no walk through the table.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_F_INGRESS, BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED,
    BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT,
    BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LOOKUP_SKIP_NEIGH,
    bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop,
};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_fib_lookup, bpf_jiffies64, bpf_redirect, bpf_redirect_neigh,
    bpf_skb_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::flow::{Address, Family, Tuple};
use lb_common::packet::Segment;

use crate::maps;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const PROTOCOL_TCP: u8 = 6;
/// Where packets of the host's own come from (net/flow.h, LOOPBACK_IFINDEX). The kernel
/// answers only where forwarding is on; the daemon turns it on here and nowhere else.
pub const LOOPBACK: u32 = 1;

/// How long an answer is believed, in ticks of the kernel's clock: 25 ms where there are
/// 1000 a second, 100 ms where there are 250.
const BELIEVED: u64 = 25;

/// What the routing table says to a packet.
pub enum Way {
    /// To this interface, and the next hop there if the table has told it.
    Open(u32, Option<NextHop>),
    /// The packet is too long; this many bytes are not.
    Narrow(u32),
    /// Forbidden by a route.
    Closed,
}

/// The way of a packet of `length` bytes, at least one, on a leg. `learned` is where the
/// leg's own packets come from, for when the table does not answer.
#[inline(always)]
pub fn way(ctx: &TcContext, family: Family, leg: &Tuple, length: u32, learned: u32) -> Way {
    let Some((code, said)) = told(
        ctx.skb.skb.cast(),
        family,
        leg,
        length,
        BPF_FIB_LOOKUP_SKIP_NEIGH,
    ) else {
        return Way::Closed;
    };
    match code {
        BPF_FIB_LKUP_RET_SUCCESS => Way::Open(said.ifindex, Some(next_hop(said))),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Way::Narrow(mtu(said)),
        BPF_FIB_LKUP_RET_BLACKHOLE | BPF_FIB_LKUP_RET_UNREACHABLE | BPF_FIB_LKUP_RET_PROHIBIT => {
            Way::Closed
        }
        _ => unasked(ctx, length, learned),
    }
}

#[inline(always)]
fn unasked(ctx: &TcContext, length: u32, learned: u32) -> Way {
    let mut mtu = 0;
    // SAFETY: the context is live, and the helper writes one integer. Its own verdict
    // would let pass every GSO packet; the MTU is what is asked for.
    unsafe { bpf_check_mtu(ctx.skb.skb.cast(), learned, &mut mtu, 0, 0) };
    if mtu != 0 && length > mtu {
        Way::Narrow(mtu)
    } else {
        Way::Open(learned, None)
    }
}

/// The loopback's hardware addresses.
static NOBODY: [u8; 12] = [0; 12];

/// Hands the packet to an end on this host, as the loopback would: the stack finds the
/// end's socket by the addresses. Packet pointers are dead after.
#[inline(always)]
fn deliver(ctx: &TcContext) -> i32 {
    // SAFETY: the context is live; the bytes are as many as told. One addressed to
    // another interface's hardware would be dropped.
    unsafe {
        bpf_skb_store_bytes(ctx.skb.skb.cast(), 0, NOBODY.as_ptr().cast(), 12, 0);
        bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) as i32
    }
}

/// Hands the packet to the neighbour layer, which resolves the next hop and keeps it
/// fresh. Packet pointers are dead after.
#[inline(always)]
pub fn send(ctx: &TcContext, ifindex: u32, next_hop: Option<NextHop>) -> i32 {
    if ifindex == LOOPBACK {
        return deliver(ctx);
    }
    let sent = match next_hop {
        // SAFETY: a structure of the size told.
        Some(mut hop) => unsafe {
            bpf_redirect_neigh(ifindex, &mut hop, size_of::<NextHop>() as i32, 0)
        },
        // SAFETY: no structure: the helper asks the routing table by itself.
        None => unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) },
    };
    sent as i32
}

/// Interface and hardware addresses for a packet of `length` bytes, where all is known.
#[inline(always)]
pub fn resolved(
    ctx: &XdpContext,
    family: Family,
    leg: &Tuple,
    length: u32,
) -> Option<&'static FibLookup> {
    let (code, said) = told(ctx.ctx.cast(), family, leg, length, 0)?;
    (code == BPF_FIB_LKUP_RET_SUCCESS).then_some(said)
}

/// Whether a segment that came in by `ifindex` is not for this host but to be forwarded.
#[inline(always)]
pub fn is_elsewhere<C: EbpfContext>(ctx: &C, ifindex: u32, segment: &Segment) -> bool {
    let tuple = &segment.key.tuple;
    let Some(answer) = maps::answer(maps::ANSWERS_MAX) else {
        return false;
    };
    let query = &mut answer.said;
    question(query, segment.family, &tuple.peer, &tuple.local, 0);
    query.ifindex = ifindex;
    let code = ask(ctx.as_ptr(), query, BPF_FIB_LOOKUP_SKIP_NEIGH);
    // Of an address of this host the table says "not forwarded", of every one where
    // forwarding is off (net/core/filter.c, bpf_ipv4_fib_lookup); negative: an error.
    code != BPF_FIB_LKUP_RET_NOT_FWDED && code != BPF_FIB_LKUP_RET_FWD_DISABLED && code as i32 >= 0
}

/// The table's verdict on a packet of a leg and what else it says, as it said lately or
/// asked now.
#[inline(always)]
fn told(
    ctx: *mut c_void,
    family: Family,
    leg: &Tuple,
    length: u32,
    flags: u32,
) -> Option<(u32, &'static FibLookup)> {
    let answer = maps::answer(place(leg))?;
    // SAFETY: a helper without arguments; the kernel puts a load in its place.
    let now = unsafe { bpf_jiffies64() };
    let kind = family as u32 | flags << 8;
    let believed = now < answer.until
        && answer.kind == kind
        && answer.to == leg.peer
        && answer.from == leg.local
        && length <= mtu(&answer.said);
    if believed {
        return Some((BPF_FIB_LKUP_RET_SUCCESS, &answer.said));
    }
    question(&mut answer.said, family, &leg.local, &leg.peer, length);
    answer.until = 0;
    let code = ask(ctx, &mut answer.said, flags);
    if code == BPF_FIB_LKUP_RET_SUCCESS {
        answer.from = leg.local;
        answer.to = leg.peer;
        answer.kind = kind;
        answer.until = now + BELIEVED;
    }
    Some((code, &answer.said))
}

/// Where the answer about a leg is kept: the upper bits of a multiplicative hash.
#[inline(always)]
fn place(leg: &Tuple) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (leg.peer.0, leg.local.0);
    let mixed = (a ^ b ^ c ^ d ^ e ^ f ^ g ^ h).wrapping_mul(0x9e37_79b1);
    mixed >> (32 - maps::ANSWERS_MAX.ilog2())
}

/// Writes every field that the kernel reads.
#[inline(always)]
fn question(query: &mut FibLookup, family: Family, from: &Address, to: &Address, length: u32) {
    query.ifindex = LOOPBACK;
    query.l4_protocol = PROTOCOL_TCP;
    query.sport = 0;
    query.dport = 0;
    query.__bindgen_anon_1.tot_len = length as u16;
    query.__bindgen_anon_2.flowinfo = 0;
    match family {
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
}

#[inline(always)]
fn ask(ctx: *mut c_void, query: &mut FibLookup, flags: u32) -> u32 {
    // SAFETY: the context the hook was given, and a structure of the size told.
    unsafe { bpf_fib_lookup(ctx, query, size_of::<FibLookup>() as i32, flags) as u32 }
}

/// The largest packet that the way takes, in bytes; told with a refusal as with success,
/// where a length was asked about (net/core/filter.c, bpf_fib_set_fwd_params).
#[inline(always)]
fn mtu(said: &FibLookup) -> u32 {
    // SAFETY: a union of integers of one size; an answer holds the MTU.
    u32::from(unsafe { said.__bindgen_anon_1.mtu_result })
}

/// An IPv4 destination may have an IPv6 gateway; the table says so in the family.
#[inline(always)]
fn next_hop(said: &FibLookup) -> NextHop {
    // SAFETY: NextHop is integers and a union of integers, for which zero is valid.
    let mut hop: NextHop = unsafe { core::mem::zeroed() };
    hop.nh_family = u32::from(said.family);
    // SAFETY: both unions hold an address of either family at their beginning.
    hop.__bindgen_anon_1.ipv6_nh = unsafe { said.__bindgen_anon_4.ipv6_dst };
    hop
}
