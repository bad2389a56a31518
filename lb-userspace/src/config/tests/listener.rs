//! `[[listener]]`, but for what has a file of its own.

use super::{GOOD, complaints, https, with_listener};
use crate::config::{Config, ForwardedFor};
use crate::tls::authority::Authority;

#[test]
fn proxy_protocol_names_who_is_believed() {
    let with = |value: &str| with_listener(&format!("proxy_protocol = {value}"));
    let good = with("{ accept_from = ['10.0.0.0/8', '192.0.2.1'] }");
    let config = Config::parse(&good).expect("a good configuration");
    assert_eq!(config.listeners[0].proxies.len(), 2);
    for (bad, key) in [
        ("{}", "accept_from: is missing"),
        (
            "{ accept_from = [] }",
            "accept_from: there must be at least one",
        ),
        (
            "{ accept_from = ['x'] }",
            "accept_from: \"x\" is not a range",
        ),
    ] {
        let found = complaints(&with(bad));
        let line = format!("listener[0].proxy_protocol.{key}");
        assert!(
            found.iter().any(|found| found.starts_with(&line)),
            "{found:?}"
        );
    }
}

#[test]
fn the_port_is_told_behind_an_address_that_is_appended() {
    let mode = |lines: &str| {
        let config = Config::parse(&with_listener(lines)).expect("a good configuration");
        config.listeners[0].x_forwarded_for
    };
    assert_eq!(mode(""), ForwardedFor::Append);
    assert_eq!(mode("x_forwarded_for_port = false"), ForwardedFor::Append);
    assert_eq!(
        mode("x_forwarded_for_port = true"),
        ForwardedFor::AppendWithPort
    );
    for other in ["preserve", "remove"] {
        let lines = format!("x_forwarded_for = '{other}'\nx_forwarded_for_port =");
        assert_eq!(
            complaints(&with_listener(&format!("{lines} true"))),
            [r#"listener[0].x_forwarded_for_port: is for x_forwarded_for = "append""#]
        );
        mode(&format!("{lines} false"));
    }
}

#[test]
fn http2_is_for_https() {
    let authority = Authority::new();
    let files = authority.files(&["a.test"]);
    let with = |more: &str| {
        let pair = format!("cert = {:?}, key = {:?}", files.cert, files.key);
        https(&format!("certificates = [{{ {pair} }}]\n{more}"))
    };
    let is_on = |text: &str| Config::parse(text).expect("good").listeners[0].http2;
    assert!(is_on(&with("")));
    assert!(!is_on(&with("http2 = false")));
    let plain = GOOD.replace(
        "idle_timeout = \"5m\"",
        "http2 = true\nidle_timeout = \"5m\"",
    );
    assert_eq!(
        complaints(&plain),
        [r#"listener[0].http2: is for protocol = "https""#]
    );
}

#[test]
fn segments_too_small_or_too_large() {
    for mss in ["535", "32768"] {
        let text = GOOD.replace("mss = 1400", &format!("mss = {mss}"));
        assert_eq!(
            complaints(&text),
            ["listener[0].mss: must be 0 or 536 to 32767 bytes"]
        );
    }
    let zero = GOOD.replace("mss = 1400", "mss = 0");
    let config = Config::parse(&zero).expect("zero leaves it to the route");
    assert_eq!(config.listeners[0].mss, None);
}
