//! `[log]`: how much the daemon says, and in which form; and the access log.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::defaults;
use super::reader::Section;
use super::template::Template;
use crate::access::{FIELDS, Field};

/// `[log]`.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// A level, or directives such as `info,limpet::proxy=debug`; checked.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    pub(crate) access: AccessLog,
}

/// `log.access`.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    pub(crate) to: AccessTo,
    pub(crate) format: AccessFormat,
}

/// `log.access.to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessTo {
    Off,
    Stdout,
    Syslog,
    File(PathBuf),
}

/// `log.access.format`.
#[derive(Debug, Clone)]
pub(crate) enum AccessFormat {
    Json,
    Combined,
    Template(Template<Field>),
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
    let access = read_access(section.section("access"));
    section.finish();
    Log {
        level,
        format,
        access,
    }
}

fn read_access(mut section: Section) -> AccessLog {
    let to: String = section.or("to", defaults::ACCESS_TO.to_owned());
    let to = match to.as_str() {
        "off" => AccessTo::Off,
        "stdout" => AccessTo::Stdout,
        "syslog" => AccessTo::Syslog,
        path if path.starts_with('/') => AccessTo::File(path.into()),
        other => {
            let message = format!("{other:?} is not stdout, syslog, off or an absolute path");
            section.problem("to", message);
            AccessTo::Off
        }
    };
    let format = read_access_format(&mut section);
    section.finish();
    AccessLog { to, format }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Combined,
    Template,
}

const FORMS: [(&str, Form); 3] = [
    ("json", Form::Json),
    ("combined", Form::Combined),
    ("template", Form::Template),
];

fn read_access_format(section: &mut Section) -> AccessFormat {
    let text: Option<String> = section.optional("template");
    let default = match text {
        Some(_) => Form::Template,
        None => Form::Json,
    };
    match (section.choice("format", &FORMS, default), text) {
        (Form::Template, Some(text)) => match Template::parse(&text, &FIELDS) {
            Ok(template) => return AccessFormat::Template(template),
            Err(message) => section.problem("template", message),
        },
        (Form::Template, None) => section.problem("template", "is missing"),
        (Form::Json | Form::Combined, Some(_)) => {
            section.problem("template", "is for format = \"template\"");
        }
        (Form::Combined, None) => return AccessFormat::Combined,
        (Form::Json, None) => {}
    }
    AccessFormat::Json
}
