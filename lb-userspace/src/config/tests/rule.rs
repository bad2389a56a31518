//! `[[listener.rule]]`.

use super::{complaints, with_listener};
use crate::config::Config;

#[test]
fn rules_in_order_of_priority() {
    let rules = r#"[[listener.rule]]
priority = 20
when = { path = "/old/*" }
redirect = { host = "new.example.com" }
[[listener.rule]]
priority = 10
when = { host = ["*.example.com"], header = { X-Env = ["beta"] }, query = {}, source = [] }
forward = [{ target_group = "chat", weight = 9 }]
group_stickiness = "1h"
"#;
    let config = Config::parse(&with_listener(rules)).expect("good rules");
    let words: Vec<&str> = config.listeners[0]
        .rules
        .iter()
        .map(|rule| rule.action.as_str())
        .collect();
    assert_eq!(words, ["forward", "redirect"]);
    assert_eq!(config.listeners[0].target_group(), Some("chat"));
    assert!(config.listeners[0].keeps_groups());
}

#[test]
fn every_error_of_rules_is_told_at_once() {
    let rules = r##"redirect = {}
group_stickiness = "1h"
[[listener.rule]]
priority = 0
when = { path = [""], method = ["get"], header = { "a b" = [] }, source = ["10.0.0.0/33"], colour = 1 }
target_group = "nobody"
[[listener.rule]]
priority = 7
forward = [{ target_group = "chat", weight = 0 }, { weight = 1000 }]
[[listener.rule]]
priority = 7
redirect = { status = 305, scheme = "ftp", host = "#{name}", port = "x", path = "a" }
[[listener.rule]]
priority = 8
redirect = { scheme = "#{protocol}" }
[[listener.rule]]
fixed_response = { status = 99, content_type = "a\nb" }
"##;
    let found = complaints(&with_listener(rules));
    for key in [
        "redirect: target_group is there already",
        "group_stickiness: is for forward",
        "rule[0].priority: must be between",
        "rule[0].when.path: a pattern cannot be empty",
        "rule[0].when.method: \"get\" is not a method",
        "rule[0].when.header.a b: is not the name",
        "rule[0].when.source: \"10.0.0.0/33\" is not a range",
        "rule[0].when.colour: unknown key",
        "rule[0].target_group: there is no target group \"nobody\"",
        "rule[1].forward: at least one target group needs a weight",
        "rule[1].forward[1].target_group: is missing",
        "rule[1].forward[1].weight: must be between",
        "rule[2].priority: 7 is used twice",
        "rule[2].redirect.status: must be 301",
        "rule[2].redirect.scheme: must be http",
        "rule[2].redirect.host: #{name} is not one of",
        "rule[2].redirect.port: must be between",
        "rule[2].redirect.path: must begin",
        "rule[3].redirect.path: this redirect leads to where it came from",
        "rule[4].priority: is missing",
        "rule[4].fixed_response.status: 99 is not a status code",
        "rule[4].fixed_response.content_type: is not a header value",
    ] {
        let line = format!("listener[0].{key}");
        assert!(
            found.iter().any(|found| found.starts_with(&line)),
            "{line} not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 22, "{found:#?}");
}

#[test]
fn what_is_not_seen_cannot_be_compared() {
    let of =
        |protocol: &str, lines: &str| with_listener(&format!("protocol = \"{protocol}\"\n{lines}"));
    let rule = |when: &str| {
        format!("[[listener.rule]]\npriority = 1\ntarget_group = \"chat\"\nwhen = {{ {when} }}\n")
    };
    for (protocol, when, good) in [
        ("tcp", "source = ['10.0.0.0/8']", true),
        ("tcp", "host = ['a']", false),
        ("tls-passthrough", "host = ['a'], source = []", true),
        ("tls-passthrough", "path = ['/a']", false),
        ("tcp", "method = ['GET']", false),
    ] {
        let result = Config::parse(&of(protocol, &rule(when)));
        assert_eq!(result.is_ok(), good, "{protocol} {when}: {result:?}");
    }
    let found = complaints(&of("tls", "").replacen("target_group = \"chat\"", "redirect = {}", 1));
    assert_eq!(
        found,
        [
            "listener[0].certificates: there must be at least one for tls",
            "listener[0].redirect: tls can only forward",
        ]
    );
}
