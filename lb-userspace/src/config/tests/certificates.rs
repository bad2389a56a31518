//! `listener.certificates`.

use std::path::Path;

use super::{complaints, https};
use crate::config::{Config, Protocol};
use crate::tls::authority::Authority;

#[test]
fn certificates_are_read_and_must_fit_their_keys() {
    let authority = Authority::new();
    let (one, other) = (authority.files(&["a.test"]), authority.files(&["b.test"]));
    let pairs = |key: &Path| {
        let (cert, other_cert) = (&one.cert, &other.cert);
        https(&format!(
            "certificates = [{{ cert = {cert:?}, key = {:?} }}, {{ cert = {other_cert:?}, key = {key:?} }}]",
            one.key
        ))
    };
    let config = Config::parse(&pairs(&other.key)).expect("a good configuration");
    assert_eq!(config.listeners[0].protocol, Protocol::Https);
    assert_eq!(config.listeners[0].certificates.len(), 2);
    let found = complaints(&pairs(&one.key));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("listener[0].certificates[1].key: "),
        "{found:?}"
    );
    assert!(
        found[0].ends_with("does not belong to the certificate"),
        "{found:?}"
    );
}

#[test]
fn bad_certificates_are_told_all_at_once() {
    let text = https(
        "certificates = [{ cert = \"/nonexistent/a\", key = \"/nonexistent/b\" }, { cert = \"/c\", colour = 1 }]",
    );
    let found = complaints(&text);
    for key in [
        "certificates[0].cert: /nonexistent/a cannot be read: No such file",
        "certificates[0].key: /nonexistent/b cannot be read: No such file",
        "certificates[1].key: is missing",
        "certificates[1].colour: unknown key",
    ] {
        let line = format!("listener[0].{key}");
        assert!(
            found.iter().any(|found| found.starts_with(&line)),
            "{key} not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 4, "{found:#?}");
    let none = complaints(&https(""));
    assert_eq!(
        none,
        ["listener[0].certificates: there must be at least one for https"]
    );
    let plain =
        https("certificates = [{ cert = \"/a\", key = \"/b\" }]").replace("\"https\"", "\"http\"");
    let found = complaints(&plain);
    assert!(
        found[0].starts_with("listener[0].certificates: are for protocol"),
        "{found:?}"
    );
}
