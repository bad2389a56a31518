//! Atomic operations on map values that return what was there.
//!
//! The BPF target claims no 64-bit atomics, so `core::sync::atomic` has none;
//! the intrinsics compile to the instructions (with target-cpu v3), which order
//! like a full barrier (kernel Documentation/bpf/standardization/instruction-set).

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

use lb_common::seq::after;

/// Attempts to raise a position against other CPUs.
const TRIES: usize = 4;

/// Adds and returns the value before.
///
/// # Safety
/// `at` points into a map value that is 8-byte aligned and alive.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, value: u64) -> u64 {
    // SAFETY: by this function's contract.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(at, value) }
}

/// Ors and returns the value before.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn fetch_or(at: *mut u64, value: u64) -> u64 {
    // SAFETY: by this function's contract.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(at, value) }
}

/// Swaps `new` in if the value is `old`; returns the value before.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> u64 {
    // SAFETY: by this function's contract.
    unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).0
    }
}

/// The same on 32 bits.
///
/// # Safety
/// `at` points into a map value that is 4-byte aligned and alive.
#[inline(always)]
pub unsafe fn compare_exchange_u32(at: *mut u32, old: u32, new: u32) -> u32 {
    // SAFETY: by this function's contract.
    unsafe {
        atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).0
    }
}

/// Raises a position in a stream that other CPUs may raise too: storing the later of two
/// could bring back what another has passed meanwhile. `false`: lost the race too often.
///
/// # Safety
/// As for [`compare_exchange_u32`].
#[inline(always)]
pub unsafe fn raise(at: *mut u32, to: u32) -> bool {
    for _ in 0..TRIES {
        // SAFETY: by this function's contract.
        let now = unsafe { at.read_volatile() };
        if !after(to, now) {
            return true;
        }
        // SAFETY: as above.
        if unsafe { compare_exchange_u32(at, now, to) } == now {
            return true;
        }
    }
    false
}
