//! The signals that the daemon obeys.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::warn;

use crate::access::AccessLog;

/// The signals that the daemon obeys.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    hangups: watch::Sender<()>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            hangups: watch::Sender::new(()),
        })
    }

    /// Hears of each HUP that is obeyed.
    pub(super) fn hangups(&self) -> watch::Receiver<()> {
        self.hangups.subscribe()
    }

    /// Waits for TERM or INT.
    pub(super) async fn terminate(&mut self, access: &AccessLog) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hup.recv() => {
                    access.reopen();
                    self.hangups.send_replace(());
                    warn!("HUP: the access log is reopened, certificates are read again; reloading is not implemented yet, the configuration is unchanged");
                }
            }
        }
    }
}
