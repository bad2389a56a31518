//! `[log]`: how much the daemon says, and in which form.

use tracing_subscriber::EnvFilter;

use super::defaults;
use super::reader::Section;

/// `[log]`.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// A level, or directives such as `info,limpet::proxy=debug`; checked.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

pub(super) fn read(mut section: Section) -> Log {
    let level: String = section.or("level", defaults::LOG_LEVEL.to_owned());
    if EnvFilter::try_new(&level).is_err() {
        section.problem(
            "level",
            format!("{level:?} is not error, warn, info, debug or trace"),
        );
    }
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", &formats, LogFormat::Text);
    section.finish();
    Log { level, format }
}
