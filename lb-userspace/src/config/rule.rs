//! `[[listener.rule]]`: a condition, and what is done with requests that meet it.

use std::collections::HashSet;

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::TargetGroup;
use super::action::{self, Action};
use super::pattern::Pattern;
use super::reader::Section;

/// ALB's range.
const PRIORITY_MAX: u32 = 50_000;

/// `[[listener.rule]]`.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) when: Condition,
    pub(crate) action: Action,
}

/// `when`: every part that is there must fit, with any of its values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    /// Without the port.
    pub(crate) host: Vec<Pattern>,
    /// As sent, without the query.
    pub(crate) path: Vec<Pattern>,
    pub(crate) header: Vec<(HeaderName, Vec<Pattern>)>,
    pub(crate) method: Vec<Method>,
    pub(crate) query: Vec<(String, Vec<Pattern>)>,
    pub(crate) source: Vec<IpNet>,
}

impl Condition {
    /// Whether it asks for more than who connects, and to which name.
    pub(super) fn asks_a_request(&self) -> bool {
        let Self {
            host: _,
            path,
            header,
            method,
            query,
            source: _,
        } = self;
        !(path.is_empty() && header.is_empty() && method.is_empty() && query.is_empty())
    }
}

/// The rules of a listener, the first to be tried first.
pub(super) fn read_all(listener: &mut Section, groups: &[TargetGroup]) -> Vec<Rule> {
    let mut taken = HashSet::new();
    let mut rules: Vec<(u32, Rule)> = listener
        .sections("rule")
        .into_iter()
        .filter_map(|section| read(section, groups, &mut taken))
        .collect();
    rules.sort_by_key(|(priority, _)| *priority);
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn read(
    mut section: Section,
    groups: &[TargetGroup],
    taken: &mut HashSet<u32>,
) -> Option<(u32, Rule)> {
    let priority = read_priority(&mut section, taken);
    let when = read_condition(section.section("when"));
    let action = action::read(&mut section, groups);
    section.finish();
    let rule = Rule {
        when,
        action: action?,
    };
    Some((priority?, rule))
}

fn read_priority(section: &mut Section, taken: &mut HashSet<u32>) -> Option<u32> {
    let priority: u32 = section.required("priority")?;
    if !(1..=PRIORITY_MAX).contains(&priority) {
        section.problem("priority", format!("must be between 1 and {PRIORITY_MAX}"));
    }
    if !taken.insert(priority) {
        section.problem("priority", format!("{priority} is used twice"));
    }
    Some(priority)
}

fn read_condition(mut section: Section) -> Condition {
    let condition = Condition {
        host: section.or("host", Vec::new()),
        path: section.or("path", Vec::new()),
        header: read_headers(section.section("header")),
        method: read_methods(&mut section),
        query: section.section("query").entries(),
        source: section.or("source", Vec::new()),
    };
    section.finish();
    condition
}

fn read_headers(mut section: Section) -> Vec<(HeaderName, Vec<Pattern>)> {
    let mut headers = Vec::new();
    for (key, patterns) in section.entries() {
        match HeaderName::try_from(&key) {
            Ok(name) => headers.push((name, patterns)),
            Err(_) => section.problem(&key, "is not the name of a header"),
        }
    }
    headers
}

fn read_methods(section: &mut Section) -> Vec<Method> {
    let words: Vec<String> = section.or("method", Vec::new());
    let mut methods = Vec::new();
    for word in words {
        match Method::try_from(word.as_str()) {
            Ok(method) if !word.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                methods.push(method);
            }
            _ => section.problem("method", format!("{word:?} is not a method, such as GET")),
        }
    }
    methods
}
