//! The control program: what the daemon must do in one step with packets around.

use aya_ebpf::programs::TcContext;
use lb_common::control::{Op, Reply, Request};
use lb_common::flow::Flow;
use lb_common::word;

use crate::atomic;
use crate::maps::FLOWS;

/// Runs the request that stands where a packet would.
#[inline(always)]
pub fn run(ctx: &TcContext) -> Reply {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<Request>() > end {
        return Reply::Invalid;
    }
    // SAFETY: the check above proves the bytes are there; a Request is integers
    // only and read_unaligned asks no alignment.
    let request = unsafe { (start as *const Request).read_unaligned() };
    let Some(flow) = FLOWS.get_ptr_mut(request.client) else {
        return Reply::Gone;
    };
    // SAFETY: an element of FLOWS, valid until the program returns; the id is
    // written once, before the entry is reachable.
    if unsafe { (*flow).id } != request.id {
        return Reply::Gone;
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::info!(
        ctx,
        "control {} on flow {:x}, word {:x}",
        request.op,
        request.id,
        request.expected
    );
    if request.op == Op::Commit as u32 {
        commit(flow, &request)
    } else if request.op == Op::End as u32 {
        // SAFETY: as above; `word` is the first, 8-byte aligned field.
        unsafe { atomic::fetch_or(&raw mut (*flow).word, word::ENDED) };
        Reply::Done
    } else {
        Reply::Invalid
    }
}

/// The shifts go in first: nobody reads them before the word says committed, and
/// the swap is a full barrier.
#[inline(always)]
fn commit(flow: *mut Flow, request: &Request) -> Reply {
    if request.expected & (word::COMMITTED | word::ENDED) != 0 {
        return Reply::Invalid;
    }
    // A commit that is late must not touch constants that packets already use.
    // SAFETY: as in `run`.
    if unsafe { (&raw const (*flow).word).read_volatile() } != request.expected {
        return Reply::Changed;
    }
    // SAFETY: as in `run`; a flow's only committer is the one task that owns it.
    unsafe { (&raw mut (*flow).shifts).write_volatile(request.shifts) };
    let committed = request.expected | word::COMMITTED;
    // SAFETY: as in `run`.
    let before =
        unsafe { atomic::compare_exchange(&raw mut (*flow).word, request.expected, committed) };
    if before == request.expected {
        Reply::Done
    } else {
        Reply::Changed
    }
}
