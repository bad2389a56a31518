//! Whatever a client asks for, a rule applies exactly if a matcher says so that follows
//! the patterns letter by letter and splits the request by itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use http::Request;
use http::header::HOST;

use crate::config::{Case, Condition, Pattern};
use crate::proxy::condition;

/// The input is six lines: the patterns of host, path and query, then the key of the
/// query, the host and the target of a request.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let patterns = [line(), line(), line()].map(pattern);
    let (key, host, target) = (line(), line(), line());
    for pattern in patterns.iter().flatten() {
        for text in [key, host, target] {
            alone(pattern, text);
        }
    }
    let Ok(key) = str::from_utf8(key) else {
        return;
    };
    asked(patterns, key, host, target);
}

fn pattern(text: &[u8]) -> Option<Pattern> {
    Pattern::parse(String::from_utf8(text.to_vec()).ok()?).ok()
}

fn alone(pattern: &Pattern, text: &[u8]) {
    for case in [Case::Sensitive, Case::Insensitive] {
        let matched = pattern.matches(text, case);
        assert_eq!(
            matched,
            follows(pattern, text, case),
            "{pattern:?} {text:?}"
        );
    }
}

fn asked(patterns: [Option<Pattern>; 3], key: &str, host: &[u8], target: &[u8]) {
    // Only origin form gets as far as the rules.
    if !target.starts_with(b"/") {
        return;
    }
    let request = Request::builder().uri(target).header(HOST, host).body(());
    let Ok((head, ())) = request.map(Request::into_parts) else {
        return;
    };
    let [by_host, by_path, by_query] = patterns;
    let when = Condition {
        host: by_host.iter().cloned().collect(),
        path: by_path.iter().cloned().collect(),
        query: vec![(key.to_owned(), by_query.iter().cloned().collect())],
        ..Condition::default()
    };
    let until = |text: &[u8], end: u8| text.split(|byte| *byte == end).next().map(<[u8]>::to_vec);
    let target = until(target, b'#').unwrap_or_default();
    let path = until(&target, b'?').unwrap_or_default();
    let query = target.get(path.len() + 1..).unwrap_or_default();
    let by = |pattern: &Option<Pattern>, text: &[u8], case| {
        let pattern = pattern.as_ref();
        pattern.is_none_or(|pattern| follows(pattern, text, case))
    };
    let named = |pair: &[u8]| {
        let name = until(pair, b'=').unwrap_or_default();
        let value = pair.get(name.len() + 1..).unwrap_or_default();
        name.eq_ignore_ascii_case(key.as_bytes()) && by(&by_query, value, Case::Insensitive)
    };
    let expected = by(&by_host, without_port(host), Case::Insensitive)
        && by(&by_path, &path, Case::Sensitive)
        && query.split(|byte| *byte == b'&').any(named);
    let client = IpAddr::from(Ipv4Addr::LOCALHOST);
    assert_eq!(condition::meets(&head, client, &when), expected, "{when:?}");
}

fn without_port(host: &[u8]) -> &[u8] {
    let end = match host.strip_prefix(b"[") {
        Some(rest) => rest.iter().position(|byte| *byte == b']').map(|at| at + 2),
        None => host.iter().position(|byte| *byte == b':'),
    };
    host.get(..end.unwrap_or(host.len())).unwrap_or_default()
}

/// All places of the pattern that the text can have led to, byte by byte.
fn follows(pattern: &Pattern, text: &[u8], case: Case) -> bool {
    let pattern = pattern.text().as_bytes();
    let mut places = with_stars_skipped(pattern, BTreeSet::from([0]));
    for byte in text {
        let next = places.iter().filter_map(|at| match pattern.get(*at)? {
            b'*' => Some(*at),
            b'?' => Some(at + 1),
            wanted => is_same(*wanted, *byte, case).then_some(at + 1),
        });
        places = with_stars_skipped(pattern, next.collect());
    }
    places.contains(&pattern.len())
}

fn with_stars_skipped(pattern: &[u8], places: BTreeSet<usize>) -> BTreeSet<usize> {
    let behind = |at: &usize| {
        let stars = pattern.get(*at..).unwrap_or_default().iter();
        *at..=at + stars.take_while(|byte| **byte == b'*').count()
    };
    places.iter().flat_map(behind).collect()
}

fn is_same(wanted: u8, byte: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => wanted == byte,
        Case::Insensitive => wanted.eq_ignore_ascii_case(&byte),
    }
}
