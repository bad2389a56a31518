//! The access log: one line for each request, and for each connection at its end.
//!
//! Lines go through a queue to a thread of their own. When that is behind, lines
//! are dropped and counted; no request ever waits.

mod format;
mod record;
mod writer;

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus::IntCounter;

pub(crate) use record::{FIELDS, Field, Head, Record};
use writer::{Order, Writer};

use crate::config::{AccessFormat, AccessLog as Config, AccessTo};

/// Lines that may wait to be written: a few megabytes at most.
const QUEUE: usize = 8192;
/// How long the end of the daemon waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The log; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    /// `None`: it is off.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    orders: SyncSender<Order>,
    format: AccessFormat,
    lost: IntCounter,
}

impl AccessLog {
    /// Opens the log and starts its thread. `lost` counts lines not written.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub(crate) fn start(config: &Config, lost: IntCounter) -> anyhow::Result<Self> {
        let opened = Writer::open(&config.to, lost.clone()).with_context(|| match &config.to {
            AccessTo::File(path) => format!("log.access.to: {}", path.display()),
            AccessTo::Stdout | AccessTo::Syslog | AccessTo::Off => "log.access".to_owned(),
        })?;
        let Some(writer) = opened else {
            return Ok(Self::off());
        };
        let (orders, receiver) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("limpet-access".into())
            .spawn(move || writer.run(&receiver))
            .context("starting the thread of the access log")?;
        Ok(Self {
            shared: Some(Arc::new(Shared {
                orders,
                format: config.format.clone(),
                lost,
            })),
        })
    }

    /// One that writes nothing.
    pub(crate) fn off() -> Self {
        Self { shared: None }
    }

    /// Writes the line of something that has ended.
    pub(crate) fn write(&self, record: &Record) {
        if let Some(shared) = &self.shared {
            let line = format::line(record, &shared.format);
            if shared.orders.try_send(Order::Line(line)).is_err() {
                shared.lost.inc();
            }
        }
    }

    /// Begins a line; `make` is not called when the log is off.
    pub(crate) fn open(&self, make: impl FnOnce() -> Record) -> Open {
        Open {
            log: self.clone(),
            begun: Instant::now(),
            record: self.shared.is_some().then(|| Box::new(make())),
        }
    }

    /// Begins a new file, after the old one has been renamed. When the thread is
    /// far behind it is not told: it would write the old lines into the new file.
    pub(crate) fn reopen(&self) {
        if let Some(shared) = &self.shared
            && shared.orders.try_send(Order::Reopen).is_err()
        {
            tracing::warn!("the access log is behind and was not reopened");
        }
    }

    /// Waits a little for what has been logged to be written.
    pub(crate) fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if let Some(shared) = &self.shared
            && shared.orders.try_send(Order::Flush(done)).is_ok()
        {
            // In vain if the disk or the pipe takes nothing any more.
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

/// A line that is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    log: AccessLog,
    begun: Instant,
    record: Option<Box<Record>>,
}

impl Open {
    /// Adds what has become known.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    /// Since it was begun.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Writes nothing: somebody else will.
    pub(crate) fn forget(&mut self) {
        self.record = None;
    }

    /// Moves the line on, to be written later.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            log: self.log.clone(),
            begun: self.begun,
            record: self.record.take(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.elapsed();
            self.log.write(&record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (orders, receiver) = mpsc::sync_channel(1);
        let lost = IntCounter::new("lost", "lines").expect("a counter");
        let log = AccessLog {
            shared: Some(Arc::new(Shared {
                orders,
                format: AccessFormat::Json,
                lost: lost.clone(),
            })),
        };
        let client = "192.0.2.1:1".parse().expect("an address");
        for _ in 0..3 {
            let mut open = log.open(|| Record::new("http", "web", client));
            open.note(|record| record.status = Some(200));
        }
        log.open(|| Record::new("http", "web", client)).forget();
        assert_eq!(lost.get(), 2);
        let Ok(Order::Line(line)) = receiver.try_recv() else {
            panic!("no line");
        };
        assert!(line.contains("\"status\":200"), "{line}");
        assert!(receiver.try_recv().is_err());
    }
}
