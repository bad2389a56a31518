//! The log: text or JSON lines on stdout.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

/// Starts logging; later calls change nothing.
pub(crate) fn start(log: &Log) {
    let filter = EnvFilter::new(directives(&log.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    // A second start would be a second daemon in the process: a test.
    let _ = match log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stdout().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
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
