//! Packet memory: the only place with raw pointers into it.

use core::arch::asm;

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_loop, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::options::{MAX, Options, Step};
use lb_common::packet::{Packet, ROOM};

use crate::maps;

/// What differs between the hooks: bounds, and copying ranges of variable size,
/// which helpers do without the verifier following each length.
pub trait Hook {
    /// Bytes of the whole packet.
    fn length(&self) -> usize;
    /// First byte of the linear part, and the one behind its last.
    fn bounds(&self) -> (usize, usize);
    /// Copies `size` bytes (1 to 64) at `offset` out; zero means done.
    fn copy_out(&self, offset: u32, into: *mut u8, size: u32) -> i64;
    /// Copies `size` bytes (1 to 64) in at `offset`; zero means done.
    fn copy_in(&self, offset: u32, from: *const u8, size: u32) -> i64;
}

impl Hook for XdpContext {
    #[inline(always)]
    fn length(&self) -> usize {
        // More than this is in no frame that XDP is given.
        self.data_end() - self.data()
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn copy_out(&self, offset: u32, into: *mut u8, size: u32) -> i64 {
        // SAFETY: callers pass a buffer of ROOM bytes and no more than that as size.
        unsafe { bpf_xdp_load_bytes(self.ctx, offset, into.cast(), size) }
    }

    #[inline(always)]
    fn copy_in(&self, offset: u32, from: *const u8, size: u32) -> i64 {
        // SAFETY: as in `copy_out`; the helper only reads the buffer.
        unsafe { bpf_xdp_store_bytes(self.ctx, offset, from.cast_mut().cast(), size) }
    }
}

impl Hook for TcContext {
    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn copy_out(&self, offset: u32, into: *mut u8, size: u32) -> i64 {
        // SAFETY: callers pass a buffer of ROOM bytes and no more than that as size.
        unsafe { bpf_skb_load_bytes(self.skb.skb.cast(), offset, into.cast(), size) }
    }

    #[inline(always)]
    fn copy_in(&self, offset: u32, from: *const u8, size: u32) -> i64 {
        // SAFETY: as in `copy_out`.
        unsafe { bpf_skb_store_bytes(self.skb.skb.cast(), offset, from.cast(), size, 0) }
    }
}

/// A packet and the bounds of its linear part, as the verifier knows them.
pub struct Frame<'a, H> {
    hook: &'a H,
    start: usize,
    end: usize,
}

impl<'a, H: Hook> Frame<'a, H> {
    /// The packet of a context.
    #[inline(always)]
    pub fn new(hook: &'a H) -> Self {
        let (start, end) = hook.bounds();
        Frame { hook, start, end }
    }

    /// Pointer to `N` bytes at `offset`, if the packet reaches so far.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        let at = self.start + offset;
        let mut behind = at + N;
        // SAFETY: moves a register onto itself. It keeps the optimiser from turning
        // the comparison into `at > end - N`, arithmetic the verifier forbids. (Not
        // an empty template: two line records would share an instruction.)
        unsafe { asm!("{0} = {0}", inout(reg) behind, options(pure, nomem, nostack)) };
        if behind > self.end {
            None
        } else {
            Some(at as *mut [u8; N])
        }
    }
}

impl<H: Hook> Packet for Frame<'_, H> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.hook.length()
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: `at` has checked that N bytes lie within the packet; bytes need
        // no alignment. The verifier checks the same again.
        self.at::<N>(offset)
            .map(|at| unsafe { at.read_unaligned() })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        // SAFETY: as in `load`; packet memory is writable in XDP and TC.
        self.at::<N>(offset)
            .map(|at| unsafe { at.write_unaligned(bytes) })
    }

    #[inline(always)]
    fn copy_out(&self, offset: usize, into: &mut [u8; ROOM], size: usize) -> Option<()> {
        let size = bounded(size)?;
        let result = self.hook.copy_out(offset as u32, into.as_mut_ptr(), size);
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn copy_in(&mut self, offset: usize, from: &[u8; ROOM], size: usize) -> Option<()> {
        let size = bounded(size)?;
        let result = self.hook.copy_in(offset as u32, from.as_ptr(), size);
        // The helper may have moved the packet; pointers from before are dead.
        (self.start, self.end) = self.hook.bounds();
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn walk(&self, _: &mut Options) {
        // SAFETY: a callback of the helper's form, and no context.
        unsafe { bpf_loop(MAX, step as *mut c_void, core::ptr::null_mut(), 0) };
    }
}

/// A size that the verifier sees to be 1 to 64, none if it is zero. The optimiser must
/// not know what `size` is made of, or it proves the mask needless and drops it.
#[inline(always)]
fn bounded(size: usize) -> Option<u32> {
    // Added behind the mask: before Linux 6.8 a comparison with zero teaches the
    // verifier nothing about the least value.
    let mut rest = size.checked_sub(1)?;
    // SAFETY: moves a register onto itself.
    unsafe { asm!("{0} = {0}", inout(reg) rest, options(pure, nomem, nostack)) };
    Some((rest & (ROOM - 1)) as u32 + 1)
}

/// One step of a walk, for `bpf_loop`: zero goes on. It finds the options by itself,
/// the helper would only take a pointer to the stack.
extern "C" fn step(_index: u64, _context: *mut c_void) -> i64 {
    match maps::options().map(Options::step) {
        Some(Step::More) => 0,
        Some(Step::Done) | None => 1,
    }
}
