//! Messages of the kernel program in the daemon's log; only in builds with the
//! `kernel-log` feature, and never from the packet path.

use anyhow::Context;
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

/// Forwards messages for as long as the runtime lives.
pub(super) fn start(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    let logger = EbpfLogger::init(ebpf).context("starting the kernel program's log")?;
    // SAFETY: the logger owns the ring buffer's map and with it the descriptor, which
    // stays open and the same until both are dropped.
    let logger = unsafe { AsyncFd::register(logger) };
    let mut logger = logger.context("waiting for the kernel program's log")?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
