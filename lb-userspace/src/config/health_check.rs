//! `[target_group.health_check]`: how targets are asked whether they are well.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;

use super::defaults;
use super::reader::Section;

/// Below this, checking is load.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// ALB's longest interval; longer, and a dead target is not noticed.
const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Beyond this, a threshold is no threshold.
const THRESHOLD_MAX: u32 = 100;

/// `[target_group.health_check]`.
#[derive(Debug, Clone)]
pub(crate) struct HealthCheck {
    pub(crate) protocol: CheckProtocol,
    /// What HTTP and WebSocket checks ask for.
    pub(crate) path: PathAndQuery,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Successes in a row that make an unhealthy target healthy.
    pub(crate) healthy_threshold: u32,
    /// Failures in a row that make a target unhealthy.
    pub(crate) unhealthy_threshold: u32,
    /// Answers of an HTTP check that are a success.
    pub(crate) success_codes: Vec<RangeInclusive<u16>>,
}

/// `health_check.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckProtocol {
    Http,
    /// A connection is enough.
    Tcp,
    /// A handshake, a ping and its pong.
    Websocket,
}

const PROTOCOLS: [(&str, CheckProtocol); 3] = [
    ("http", CheckProtocol::Http),
    ("tcp", CheckProtocol::Tcp),
    ("websocket", CheckProtocol::Websocket),
];

pub(super) fn read(mut section: Section) -> HealthCheck {
    let check = HealthCheck {
        protocol: section.choice("protocol", &PROTOCOLS, CheckProtocol::Http),
        path: read_path(&mut section),
        interval: read_time(&mut section, "interval", defaults::CHECK_INTERVAL),
        timeout: read_time(&mut section, "timeout", defaults::CHECK_TIMEOUT),
        healthy_threshold: read_threshold(
            &mut section,
            "healthy_threshold",
            defaults::HEALTHY_THRESHOLD,
        ),
        unhealthy_threshold: read_threshold(
            &mut section,
            "unhealthy_threshold",
            defaults::UNHEALTHY_THRESHOLD,
        ),
        success_codes: read_codes(&mut section),
    };
    section.finish();
    check
}

fn read_path(section: &mut Section) -> PathAndQuery {
    let path: String = section.or("path", "/".to_owned());
    let parsed = path.parse().ok().filter(|_| path.starts_with('/'));
    parsed.unwrap_or_else(|| {
        section.problem("path", format!("{path:?} is not a path, such as /health"));
        PathAndQuery::from_static("/")
    })
}

fn read_time(section: &mut Section, key: &str, default: Duration) -> Duration {
    let time = section.or(key, default);
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&time) {
        section.problem(key, "must be between 100ms and 5m");
    }
    time
}

fn read_threshold(section: &mut Section, key: &str, default: u32) -> u32 {
    let threshold = section.or(key, default);
    if !(1..=THRESHOLD_MAX).contains(&threshold) {
        section.problem(key, format!("must be between 1 and {THRESHOLD_MAX}"));
    }
    threshold
}

fn read_codes(section: &mut Section) -> Vec<RangeInclusive<u16>> {
    let text: String = section.or("success_codes", defaults::SUCCESS_CODES.to_owned());
    let codes: Option<Vec<_>> = text.split(',').map(|part| codes(part.trim())).collect();
    codes.unwrap_or_else(|| {
        let message = format!("{text:?} is not codes, such as 200 or 200-299 or 200,404");
        section.problem("success_codes", message);
        Vec::new()
    })
}

fn codes(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (200 <= first && first <= last && last <= 599).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::super::reader::Problems;
    use super::*;

    fn read_text(text: &str) -> (HealthCheck, Vec<String>) {
        let problems = Problems::default();
        let table = text.parse().expect("a table");
        let check = read(Section::root(table, problems.clone()));
        let complaints = problems.take().iter().map(ToString::to_string).collect();
        (check, complaints)
    }

    #[test]
    fn the_defaults_are_those_of_alb() {
        let (check, complaints) = read_text("");
        assert_eq!(complaints, [""; 0]);
        assert_eq!(check.protocol, CheckProtocol::Http);
        assert_eq!(check.path, "/");
        assert_eq!(check.interval, Duration::from_secs(30));
        assert_eq!(check.timeout, Duration::from_secs(5));
        assert_eq!(check.healthy_threshold, 5);
        assert_eq!(check.unhealthy_threshold, 2);
        assert_eq!(check.success_codes, [200..=200]);
    }

    #[test]
    fn codes_are_lists_and_ranges() {
        let (check, _) = read_text("success_codes = \"200-299, 404\"");
        assert_eq!(check.success_codes, [200..=299, 404..=404]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, key) in [
            ("protocol = \"udp\"", "protocol"),
            ("path = \"health\"", "path"),
            ("interval = \"1ms\"", "interval"),
            ("timeout = \"1h\"", "timeout"),
            ("healthy_threshold = 0", "healthy_threshold"),
            ("unhealthy_threshold = 101", "unhealthy_threshold"),
            ("success_codes = \"299-200\"", "success_codes"),
            ("success_codes = \"101\"", "success_codes"),
            ("colour = 1", "colour"),
        ] {
            let (_, complaints) = read_text(line);
            let [complaint] = complaints.as_slice() else {
                panic!("{line}: {complaints:?}");
            };
            assert!(complaint.starts_with(&format!("{key}: ")), "{complaint}");
        }
    }
}
