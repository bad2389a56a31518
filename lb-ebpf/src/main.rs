//! The kernel program: one decision over every packet, bound to two hooks.
//!
//! A packet's way is parse (lb-common) -> [`lookup`] -> [`observe`] or
//! [`forward`] -> the hook's own verdict here. Every packet ends in exactly one
//! [`Outcome`], and every outcome is counted.
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "BPF atomics that return a value, see atomic.rs"
)]
#![feature(core_intrinsics)]
#![feature(asm_experimental_arch)]

mod atomic;
mod control;
mod decide;
mod door;
mod egress;
mod forward;
mod lookup;
mod maps;
mod observe;
mod packet;
mod report;
mod route;
mod steer;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::outcome::Outcome;

/// First on a NIC: forwards what it can send on by itself, leaves the rest to TC.
#[xdp]
pub fn limpet_xdp(ctx: XdpContext) -> u32 {
    let (direction, outcome) = steer::xdp(&ctx);
    maps::count(direction, outcome);
    match outcome {
        Outcome::Other | Outcome::NoFlow | Outcome::Observed | Outcome::Deferred => {
            xdp_action::XDP_PASS
        }
        Outcome::Forwarded => xdp_action::XDP_REDIRECT,
        Outcome::Challenged => xdp_action::XDP_TX,
        Outcome::Fragment
        | Outcome::Headers
        | Outcome::Malformed
        | Outcome::Expired
        | Outcome::Ended
        | Outcome::Guarded
        | Outcome::Matched
        | Outcome::TooBig
        | Outcome::Unreachable
        | Outcome::Doubted
        | Outcome::Narrow
        | Outcome::Unroutable
        | Outcome::Denied
        | Outcome::Limited => xdp_action::XDP_DROP,
    }
}

/// Before the stack, behind XDP: resolves neighbours, knows GSO and partial checksums.
/// What is not of a flow goes on to whatever program is attached next.
///
/// Inlined into the entry that the macro makes: all frames of a call share 512 bytes,
/// and older kernels (6.1) count 32 for an empty one.
#[classifier]
#[inline(always)]
pub fn limpet_tc(ctx: TcContext) -> i32 {
    let (direction, outcome, redirected) = steer::tc(&ctx);
    maps::count(direction, outcome);
    match outcome {
        Outcome::Other | Outcome::NoFlow | Outcome::Observed | Outcome::Deferred => TC_ACT_UNSPEC,
        Outcome::Forwarded
        | Outcome::Challenged
        | Outcome::TooBig
        | Outcome::Unreachable
        | Outcome::Narrow => redirected,
        Outcome::Fragment
        | Outcome::Headers
        | Outcome::Malformed
        | Outcome::Expired
        | Outcome::Ended
        | Outcome::Guarded
        | Outcome::Matched
        | Outcome::Doubted
        | Outcome::Unroutable
        | Outcome::Denied
        | Outcome::Limited => TC_ACT_SHOT,
    }
}

/// Behind the stack: keeps its resets away from live flows, and makes its SYNs to
/// targets ask for what the clients' legs have.
#[classifier]
pub fn limpet_egress(ctx: TcContext) -> i32 {
    let Some((direction, outcome)) = egress::check(&ctx) else {
        return TC_ACT_UNSPEC;
    };
    maps::count(direction, outcome);
    if outcome == Outcome::Matched {
        TC_ACT_UNSPEC
    } else {
        TC_ACT_SHOT
    }
}

/// Never attached; run by the daemon for what must be atomic with packets.
#[classifier]
pub fn limpet_control(ctx: TcContext) -> i32 {
    control::run(&ctx) as i32
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel's word for a licence under which GPL-only helpers may be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
