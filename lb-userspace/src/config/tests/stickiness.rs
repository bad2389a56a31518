//! `[target_group.stickiness]`.

use super::{GOOD, complaints};
use crate::config::{Config, StickinessMode};
use crate::scratch::Scratch;

#[test]
fn modes_of_stickiness() {
    let mode = |lines: &str| {
        let text = GOOD.replace("mode = \"lb_cookie\"", lines);
        let config = Config::parse(&text).expect("a configuration");
        let stickiness = config.target_groups[0].stickiness.clone();
        stickiness.map(|stickiness| stickiness.mode)
    };
    let named = |name: &'static str| http::HeaderName::from_static(name);
    for (lines, expected) in [
        ("mode = 'off'", None),
        ("mode = 'lb_cookie'", Some(StickinessMode::LbCookie)),
        ("mode = 'source_ip'", Some(StickinessMode::SourceIp)),
        (
            "mode = 'app_cookie'",
            Some(StickinessMode::AppCookie("JSESSIONID".into())),
        ),
        (
            "mode = 'header'\nheader = 'X-Id'\nquery = 'other'",
            Some(StickinessMode::Header(named("x-id"))),
        ),
        ("mode = 'query'", Some(StickinessMode::Query("sid".into()))),
    ] {
        assert_eq!(mode(lines), expected, "{lines}");
    }
    let bad = "mode = 'app_cookie'\napp_cookie = 'LIMPET'\nheader = 'a b'\nquery = 'a b'";
    let found = complaints(&GOOD.replace("mode = \"lb_cookie\"", bad));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn short_and_missing_secrets_are_refused() {
    let scratch = Scratch::new("secret");
    let file = scratch.write("key", "short");
    let files = format!("secret_files = [{file:?}, \"/nonexistent/key\"]\nmode = \"lb_cookie\"");
    let found = complaints(&GOOD.replace("mode = \"lb_cookie\"", &files));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("at least 16 are needed"), "{found:?}");
}
