//! The log: text or JSON lines on stdout.
//!
//! `lines` writes them: a task that logs never waits for who reads stdout.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{AccessTo, Log, LogFormat};
use crate::lines::{Lines, Purpose};

/// Thousands of lines may wait.
const PURPOSE: Purpose = Purpose {
    what: "the log",
    thread: "limpet-log",
    bytes: 1024 * 1024,
};

/// The log; dropped, it waits a little for its last lines to be written.
#[derive(Debug)]
pub(crate) struct Logging(Option<Lines>);

impl Logging {
    /// Starts logging; later calls change nothing. `lost` counts lines not written.
    ///
    /// # Errors
    /// There is no stdout, or the thread cannot be started.
    pub(crate) fn start(log: &Log, lost: &IntCounter) -> anyhow::Result<Self> {
        let started = Lines::start(PURPOSE, &AccessTo::Stdout, lost);
        let lines = started.context("starting the log")?;
        if let Some(lines) = lines.clone() {
            subscribe(log, lines);
        }
        Ok(Self(lines))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(lines) = &self.0 {
            lines.flush();
        }
    }
}

fn subscribe(log: &Log, lines: Lines) {
    let filter = EnvFilter::new(directives(&log.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(move || Line(lines.clone()));
    // A second start would be a second daemon in the process: a test.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(io::stdout().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Takes a line, which the subscriber writes in one go.
struct Line(Lines);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A plain level is meant for the daemon; libraries are heard when something is
/// wrong. Directives are taken as they are.
fn directives(level: &str) -> String {
    match level.parse::<LevelFilter>() {
        Ok(LevelFilter::ERROR | LevelFilter::OFF) | Err(_) => level.to_owned(),
        Ok(_) => format!("warn,limpet={level}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        assert_eq!(directives("debug"), "warn,limpet=debug");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,hyper=trace"), "info,hyper=trace");
    }
}
