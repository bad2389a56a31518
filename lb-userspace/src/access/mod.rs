//! The access log: one line for each request, and for each connection at its end.
//!
//! `lines` writes them; no request ever waits.

mod format;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus::IntCounter;

pub(crate) use record::{FIELDS, Field, Head, Record};

use crate::config::{AccessFormat, AccessLog as Config, AccessTo};
use crate::lines::{Lines, Purpose};

/// Some ten thousand lines of the usual length may wait: a second or more of them.
const PURPOSE: Purpose = Purpose {
    what: "the access log",
    thread: "limpet-access",
    bytes: 8 * 1024 * 1024,
};

/// The log; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    /// `None`: it is off.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    lines: Lines,
    format: AccessFormat,
}

impl AccessLog {
    /// Opens the log and starts its thread. `lost` counts lines not written.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub(crate) fn start(config: &Config, lost: &IntCounter) -> anyhow::Result<Self> {
        let started = Lines::start(PURPOSE, &config.to, lost);
        let lines = started.with_context(|| match &config.to {
            AccessTo::File(path) => format!("log.access.to: {}", path.display()),
            AccessTo::Stdout | AccessTo::Syslog | AccessTo::Off => "log.access".to_owned(),
        })?;
        let format = config.format.clone();
        Ok(Self {
            shared: lines.map(|lines| Arc::new(Shared { lines, format })),
        })
    }

    /// One that writes nothing.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { shared: None }
    }

    /// Writes the line of something that has ended.
    pub(crate) fn write(&self, record: &Record) {
        if let Some(shared) = &self.shared {
            shared.lines.write(format::line(record, &shared.format));
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

    /// Begins a new file, after the old one has been renamed.
    pub(crate) fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.lines.reopen();
        }
    }

    /// Waits a little for what has been logged to be written.
    pub(crate) fn flush(&self) {
        if let Some(shared) = &self.shared {
            shared.lines.flush();
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

    /// More than fit.
    const LINES: usize = 500;

    #[test]
    fn a_line_is_written_at_its_end_unless_it_is_forgotten() {
        let lost = IntCounter::new("lost", "lines").expect("a counter");
        let (lines, mut written) = Lines::unread(PURPOSE.bytes, &lost);
        let log = AccessLog {
            shared: Some(Arc::new(Shared {
                lines,
                format: AccessFormat::Json,
            })),
        };
        let client = "192.0.2.1:1".parse().expect("an address");
        let mut open = log.open(|| Record::new("http", "web", client));
        open.note(|record| record.status = Some(200));
        assert_eq!(written.next(), None);
        drop(open);
        log.open(|| Record::new("http", "web", client)).forget();
        let line = written.next().expect("a line");
        assert!(line.contains("\"status\":200"), "{line}");
        assert_eq!(written.next(), None);
    }

    #[test]
    fn lines_that_are_as_long_as_clients_can_make_them_do_not_fill_the_memory() {
        let lost = IntCounter::new("lost", "lines").expect("a counter");
        let (lines, written) = Lines::unread(PURPOSE.bytes, &lost);
        let log = AccessLog {
            shared: Some(Arc::new(Shared {
                lines,
                format: AccessFormat::Json,
            })),
        };
        let client = "192.0.2.1:1".parse().expect("an address");
        let tabs = vec![b'\t'; 30_000];
        let request = http::Request::builder()
            .uri("/u")
            .header("Referer", tabs.as_slice())
            .header("User-Agent", tabs.as_slice());
        let (head, ()) = request.body(()).expect("a request").into_parts();
        for _ in 0..LINES {
            let _line = log.open(|| Record {
                head: Some(Head::of(&head)),
                ..Record::new("http", "web", client)
            });
        }
        let written: Vec<String> = written.collect();
        let held: usize = written.iter().map(String::capacity).sum();
        assert!(held <= PURPOSE.bytes, "{held} bytes are held");
        assert!(written.iter().all(|line| line.len() < 40_000));
        assert_eq!(written.len() as u64 + lost.get(), LINES as u64);
        assert!(lost.get() > 0);
    }
}
