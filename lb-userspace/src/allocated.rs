//! Counts what the thread of a test has allocated. All of a test that runs on one thread,
//! the balancer too, is in it, and nothing of the tests beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTED: Counted = Counted;

struct Counted;

thread_local! {
    /// Bytes now, less what other threads have freed, and the most there have been.
    static BYTES: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Begins to count on this thread.
pub(crate) fn begin() {
    BYTES.set((0, 0));
}

/// The most bytes at a time that this thread has had since, besides those it had.
pub(crate) fn most() -> usize {
    let (_, most) = BYTES.get();
    most.unsigned_abs()
}

fn count(more: usize, less: usize) {
    // The thread is at its end otherwise.
    let _ = BYTES.try_with(|bytes| {
        let (now, most) = bytes.get();
        let now = now.wrapping_add_unsigned(more).wrapping_sub_unsigned(less);
        bytes.set((now, most.max(now)));
    });
}

// SAFETY: all calls go to the system's allocator as they came; counting allocates nothing,
// because a constant `Cell` needs neither memory nor a destructor.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps to the same contract, and all memory is the system's.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller keeps to the same contract, and all memory is the system's.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[test]
fn the_most_at_a_time_on_this_thread_only() {
    begin();
    drop(vec![0_u8; 3_000_000]);
    let kept = vec![0_u8; 1_000_000];
    std::thread::spawn(|| drop(vec![0_u8; 9_000_000]))
        .join()
        .expect("no panic");
    let most = most();
    assert!((3_000_000..3_500_000).contains(&most), "{most}");
    drop(kept);
}
