//! The configuration: a TOML file in, a valid `Config` out, or every error at once.
//!
//! Nothing past this module checks a setting again: what is in `Config` can be
//! used as it is. Secrets are read from their files here, and never printed.

mod action;
mod admin;
mod certificates;
mod client_certificates;
mod defaults;
mod door;
mod error_pages;
mod fastpath;
mod health_check;
mod limits;
mod listener;
mod log;
mod pattern;
mod reader;
mod rule;
mod secret;
mod stickiness;
mod target_group;
mod target_name;
mod template;
mod units;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(test)]
pub(crate) use action::Weighted;
pub(crate) use action::{Action, Fixed, Forward, Placeholder, Redirect};
pub(crate) use admin::{Admin, AdminBind};
pub(crate) use defaults::WEIGHT_MAX;
#[cfg(test)]
pub(crate) use error_pages::CODES as ERROR_CODES;
pub(crate) use error_pages::ErrorPages;
pub(crate) use health_check::{CheckProtocol, HealthCheck};
pub(crate) use limits::Limits;
pub(crate) use listener::{ForwardedFor, Listener, Protocol};
pub(crate) use log::{AccessFormat, AccessLog, AccessTo, Log, LogFormat};
pub(crate) use pattern::{Case, Pattern};
pub(crate) use rule::Condition;
pub(crate) use secret::{MIN_SECRET, Secret};
pub(crate) use stickiness::{SameSite, Stickiness, StickinessMode};
pub(crate) use target_group::{
    Algorithm, OnUnhealthy, ProxyProtocol, TargetConfig, TargetGroup, TargetProtocol, check_target,
    check_weight,
};
pub(crate) use target_name::{Question, TargetName};

use crate::dataplane::Settings;
use reader::{Problem, Problems, Section};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where what must survive a restart is kept.
    pub(crate) state_dir: PathBuf,
    /// How long userspace connections may go on after TERM.
    pub(crate) shutdown_deadline: Duration,
    /// What becomes of flows on TERM.
    pub(crate) shutdown_flows: ShutdownFlows,
    /// Many connections are ended spread over this.
    pub(crate) end_window: Duration,
    pub(crate) log: Log,
    pub(crate) admin: Admin,
    pub(crate) fastpath: Settings,
    pub(crate) limits: Limits,
    /// Who is asked for the names of targets; empty: who the host asks.
    pub(crate) resolver: Vec<SocketAddr>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) target_groups: Vec<TargetGroup>,
}

/// `shutdown_flows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownFlows {
    /// They go on without the daemon.
    Keep,
    /// They end with it, with resets.
    End,
}

/// Everything that is wrong with a file.
#[derive(Debug)]
pub(crate) struct Invalid {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(file: &Path) -> Result<Self, Invalid> {
        std::fs::read_to_string(file)
            .map_err(|error| vec![whole_file(format!("cannot be read: {error}"))])
            .and_then(|text| Self::parse(&text))
            .map_err(|problems| Invalid {
                file: file.to_owned(),
                problems,
            })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let table = text
            .parse::<toml::Table>()
            .map_err(|error| vec![whole_file(error.to_string().trim_end().to_owned())])?;
        let problems = Problems::default();
        let config = Self::read(Section::root(table, problems.clone()));
        let problems = problems.take();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }

    fn read(mut root: Section) -> Self {
        let state_dir = root.or("state_dir", PathBuf::from(defaults::STATE_DIR));
        let shutdown_deadline = root.or("shutdown_deadline", defaults::SHUTDOWN_DEADLINE);
        let flows = [("keep", ShutdownFlows::Keep), ("end", ShutdownFlows::End)];
        let shutdown_flows = root.choice("shutdown_flows", &flows, ShutdownFlows::Keep);
        let end_window = root.or("end_window", defaults::END_WINDOW);
        let log = log::read(root.section("log"));
        let admin = admin::read(root.section("admin"));
        let fastpath = fastpath::read(root.section("fastpath"));
        let limits = limits::read(root.section("limits"));
        let resolver = root.or("resolver", Vec::new());
        let target_groups = read_target_groups(&mut root);
        let pages = error_pages::read(&mut root, &ErrorPages::default());
        let listeners = read_listeners(&mut root, &target_groups, &pages);
        root.finish();
        Self {
            state_dir,
            shutdown_deadline,
            shutdown_flows,
            end_window,
            log,
            admin,
            fastpath,
            limits,
            resolver,
            listeners,
            target_groups,
        }
    }
}

/// The fast path as it is unless the configuration says otherwise.
pub(crate) fn default_fastpath() -> Settings {
    fastpath::read(Section::root(toml::Table::new(), Problems::default()))
}

fn read_target_groups(root: &mut Section) -> Vec<TargetGroup> {
    let mut names = HashSet::new();
    root.sections("target_group")
        .into_iter()
        .filter_map(|section| target_group::read(section, &mut names))
        .collect()
}

fn read_listeners(root: &mut Section, groups: &[TargetGroup], pages: &ErrorPages) -> Vec<Listener> {
    let sections = root.sections("listener");
    if sections.is_empty() {
        root.problem("listener", "there must be at least one [[listener]]");
    }
    let mut seen = listener::Seen::new(groups, pages);
    sections
        .into_iter()
        .filter_map(|section| listener::read(section, &mut seen))
        .collect()
}

/// Names become label values, ids and paths of the admin API.
fn checked_name(section: &mut Section, names: &mut HashSet<String>) -> Option<String> {
    let name: String = section.required("name")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        section.problem(
            "name",
            "must be 1 to 64 letters, digits, dots, dashes or underscores",
        );
        return None;
    }
    if !names.insert(name.clone()) {
        section.problem("name", format!("{name:?} is used twice"));
        return None;
    }
    Some(name)
}

fn whole_file(message: String) -> Problem {
    Problem {
        key: String::new(),
        message,
    }
}

#[cfg(test)]
mod tests;
