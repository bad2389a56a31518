//! New certificates while running: the files are looked at, and what has changed
//! is served from the next handshake on. Open connections notice nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::certificates::Certificates;
use super::clients::Clients;
use super::pair::{Pair, Reload};
use super::server::Server;
use crate::drain::{Drain, Stage};
use crate::metrics::Metrics;

/// A look costs two system calls per pair; who renews waits no longer than this.
const INTERVAL: Duration = Duration::from_secs(5);

/// What a listener serves by files.
#[derive(Debug)]
pub(crate) struct Rotation {
    pub(crate) listener: String,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) clients: Option<Clients>,
    /// Kept as the files of `pairs` are.
    pub(crate) certificates: Arc<Certificates>,
    /// Kept as the file of `clients` is.
    pub(crate) server: Server,
    pub(crate) metrics: Arc<Metrics>,
}

impl Rotation {
    /// Looks again and again, and at once after a hangup, until the daemon drains.
    pub(crate) async fn run(mut self, mut drain: Drain, mut hangups: watch::Receiver<()>) {
        self.metrics.certificates_of(&self.listener);
        self.tell_ends();
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                Ok(()) = hangups.changed() => {}
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
            changed |= report(&self.listener, &self.metrics, &pair.files().cert, result);
        }
        if changed {
            self.certificates.replace(&self.pairs);
            self.tell_ends();
        }
        if let Some(clients) = &mut self.clients {
            let result = clients.reload();
            if report(&self.listener, &self.metrics, clients.file(), result)
                && let Err(error) = self.server.renew(Some(clients))
            {
                warn!(self.listener, %error, "the old authorities are kept");
            }
        }
    }

    fn tell_ends(&self) {
        for pair in &self.pairs {
            if let Some(end) = pair.not_after() {
                let certificate = pair.files().cert.display().to_string();
                self.metrics.certificate(&self.listener, &certificate, end);
            }
        }
    }
}

/// Whether there is something new.
fn report(listener: &str, metrics: &Metrics, file: &Path, result: Reload) -> bool {
    let file = file.display();
    match result {
        Reload::Unchanged => false,
        Reload::New => {
            info!(listener, certificate = %file, "certificate reloaded");
            metrics.certificate_read(listener, "new");
            true
        }
        Reload::Broken(all) => {
            for broken in all {
                warn!(listener, certificate = %file, %broken, "the old certificate is kept");
            }
            metrics.certificate_read(listener, "broken");
            false
        }
    }
}
