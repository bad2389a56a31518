//! Whole files in, a configuration or the complete list of complaints out; by section.

mod admin;
mod certificates;
mod client_certificates;
mod door;
mod error_pages;
mod listener;
mod rule;
mod stickiness;
mod target_group;
mod target_name;

use super::*;

const GOOD: &str = r#"
state_dir = "/tmp/limpet"
[admin]
bind = "unix:/run/limpet/admin.sock"
[fastpath]
mode = "tc"
interfaces = ["eth0"]
[limits]
header_bytes = "16KiB"
[[listener]]
name = "web"
bind = ["0.0.0.0:80", "[::]:80"]
target_group = "chat"
mss = 1400
idle_timeout = "5m"
[[target_group]]
name = "chat"
[target_group.stickiness]
mode = "lb_cookie"
same_site = "none"
[[target_group.target]]
address = "10.0.0.1:8080"
[[target_group.target]]
address = "10.0.0.2:8080"
weight = 3
"#;

fn complaints(text: &str) -> Vec<String> {
    Config::parse(text)
        .expect_err("a configuration with errors")
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The good file, with more lines for its listener.
fn with_listener(lines: &str) -> String {
    GOOD.replacen("[[target_group]]", &format!("{lines}\n[[target_group]]"), 1)
}

/// A file with one https listener and these certificates.
fn https(certificates: &str) -> String {
    let protocol = format!("protocol = \"https\"\n{certificates}\nidle_timeout = \"5m\"");
    GOOD.replace("idle_timeout = \"5m\"", &protocol)
}

#[test]
fn a_good_file() {
    let config = Config::parse(GOOD).expect("a good configuration");
    assert_eq!(config.listeners[0].binds.len(), 2);
    assert_eq!(config.listeners[0].idle_timeout, Duration::from_secs(300));
    assert_eq!(config.listeners[0].mss, Some(1400));
    assert_eq!(config.limits.header_bytes, 16 * 1024);
    assert_eq!(config.target_groups[0].targets[1].weight, 3);
    let stickiness = config.target_groups[0]
        .stickiness
        .as_ref()
        .expect("stickiness");
    assert_eq!(stickiness.same_site, SameSite::None);
    assert_eq!(stickiness.cookie, "LIMPET");
}

#[test]
fn every_error_is_told_at_once() {
    let found = complaints(
        r#"
typo = 1
[limits]
connect_timeout = "5"
[[listener]]
name = "web"
bind = "0.0.0.0"
target_group = "nobody"
[[listener]]
name = "web"
bind = ["0.0.0.0:80", "0.0.0.0:80"]
target_group = "chat"
protocol = "gopher"
[[target_group]]
name = "chat"
[[target_group.target]]
weight = -1
colour = "red"
"#,
    );
    for key in [
        "typo: unknown key",
        "limits.connect_timeout: ",
        "listener[0].bind: ",
        "listener[0].target_group: there is no target group \"nobody\"",
        "listener[1].name: \"web\" is used twice",
        "listener[1].bind: 0.0.0.0:80 is bound twice",
        "listener[1].protocol: \"gopher\" is not one of http",
        "target_group[0].target[0].address: is missing",
        "target_group[0].target[0].weight: ",
        "target_group[0].target[0].colour: unknown key",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(key)),
            "{key} not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let found = complaints("state_dir = \"/x\"\n[admin\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("line 2"), "{found:?}");
}

#[test]
fn the_example_is_a_good_file() {
    let text = include_str!("../../../../deploy/limpet.example.toml");
    let config = Config::parse(text).expect("a good configuration");
    assert_eq!(config.target_groups[0].targets.len(), 2);
}

#[test]
fn the_first_example_is_sticky() {
    let text = include_str!("../../../../README.md");
    let (_, text) = text.split_once("```toml\n").expect("an example");
    let (text, _) = text.split_once("```").expect("its end");
    let config = Config::parse(text).expect("a good configuration");
    let stickiness = config.target_groups[0].stickiness.as_ref();
    let mode = &stickiness.expect("stickiness").mode;
    assert!(matches!(mode, StickinessMode::LbCookie), "{mode:?}");
}
