//! New certificates while running: the files are looked at, and what has changed
//! is served from the next handshake on. Open connections notice nothing.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::certificates::Certificates;
use super::pair::{Pair, Reload};
use crate::drain::{Drain, Stage};

/// A look costs two system calls per pair; who renews waits no longer than this.
const INTERVAL: Duration = Duration::from_secs(5);

/// The pairs of a listener and their files.
#[derive(Debug)]
pub(crate) struct Rotation {
    listener: String,
    pairs: Vec<Pair>,
    certificates: Arc<Certificates>,
}

impl Rotation {
    /// Keeps `certificates` as the files of `pairs` are.
    pub(crate) fn new(listener: String, pairs: Vec<Pair>, certificates: Arc<Certificates>) -> Self {
        Self {
            listener,
            pairs,
            certificates,
        }
    }

    /// Looks again and again until the daemon drains.
    pub(crate) async fn run(mut self, mut drain: Drain) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = drain.reached(Stage::Draining) => return,
            }
            // A file system may be slow to answer.
            let look = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            let Ok(this) = look.await else { return };
            self = this;
        }
    }

    /// Looks once.
    pub(super) fn look(&mut self) {
        let mut changed = false;
        for pair in &mut self.pairs {
            let result = pair.reload();
            let (listener, cert) = (&self.listener, pair.files().cert.display());
            match result {
                Reload::Unchanged => {}
                Reload::New => {
                    info!(listener, %cert, "certificate reloaded");
                    changed = true;
                }
                Reload::Broken(all) => {
                    for broken in all {
                        warn!(listener, %cert, %broken, "the old certificate is kept");
                    }
                }
            }
        }
        if changed {
            self.certificates.replace(&self.pairs);
        }
    }
}
