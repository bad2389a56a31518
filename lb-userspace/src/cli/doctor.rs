//! `doctor`: what this host has and lacks.

use std::path::Path;

use anyhow::bail;
use serde_json::{Value, json};

use super::table;
use crate::config::{self, Config};
use crate::dataplane::{Finding, Level, examine};

/// Prints what was found; an error if something does not work as it is.
pub(super) fn run(file: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let settings = match file {
        Some(file) => Config::load(file)?.fastpath,
        None => config::default_fastpath(),
    };
    let findings = examine(&settings);
    if as_json {
        println!("{:#}", Value::from_iter(findings.iter().map(value)));
    } else {
        let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
        table::print(&["", "WHAT", "FOUND"], &rows);
    }
    match findings
        .iter()
        .filter(|one| one.level == Level::Fail)
        .count()
    {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", findings.len()),
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let Finding {
        level,
        subject,
        message,
    } = finding;
    vec![level.as_str().to_owned(), subject.clone(), message.clone()]
}

fn value(finding: &Finding) -> Value {
    json!({
        "level": finding.level.as_str(),
        "subject": finding.subject,
        "message": finding.message,
    })
}
