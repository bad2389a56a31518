//! `[[target_group]]`, and how its targets are spoken to.

use super::{GOOD, complaints};
use crate::config::{Config, TargetProtocol};
use crate::tls::authority::Authority;

#[test]
fn a_group_without_targets_is_fine() {
    let text = "[[listener]]\nname='a'\nbind='127.0.0.1:0'\ntarget_group='g'\n[[target_group]]\nname='g'\n";
    assert!(Config::parse(text).is_ok());
}

#[test]
fn targets_in_tls_are_verified_unless_it_is_said() {
    let authority = Authority::new();
    let ca = authority.files(&["a.test"]).cert;
    let with = |lines: &str| {
        let group = format!("[[target_group]]\nname = \"chat\"\n{lines}");
        GOOD.replace("[[target_group]]\nname = \"chat\"", &group)
    };
    for good in [
        format!("protocol = \"https\"\ntls = {{ ca = {ca:?} }}"),
        format!("protocol = \"https\"\ntls = {{ ca = {ca:?}, name = \"a.test\" }}"),
        "protocol = \"https\"\ntls = { verify = false }".to_owned(),
    ] {
        let config = Config::parse(&with(&good)).expect(&good);
        let protocol = &config.target_groups[0].protocol;
        assert!(matches!(protocol, TargetProtocol::Https(_)), "{protocol:?}");
    }
    for (bad, key, says) in [
        ("protocol = \"https\"", "tls.ca", "verify = false"),
        (
            "protocol = \"https\"\ntls = { ca = \"/none\" }",
            "tls.ca",
            "/none",
        ),
        (
            "protocol = \"https\"\ntls = { verify = false, name = \"a b\" }",
            "tls.name",
            "host",
        ),
        ("tls = { verify = false }", "tls", "https"),
        (
            "protocol = \"h2c\"\nproxy_protocol = \"v1\"",
            "proxy_protocol",
            "h2c",
        ),
        (
            "protocol = \"h2c\"\nhealth_check = { protocol = \"websocket\" }",
            "health_check.protocol",
            "WebSockets",
        ),
    ] {
        let found = complaints(&with(bad));
        assert_eq!(found.len(), 1, "{found:?}");
        let start = format!("target_group[0].{key}: ");
        assert!(found[0].starts_with(&start), "{found:?}");
        assert!(found[0].contains(says), "{found:?}");
    }
    let h2c = Config::parse(&with("protocol = \"h2c\"")).expect("good");
    let protocol = &h2c.target_groups[0].protocol;
    assert!(matches!(protocol, TargetProtocol::H2c), "{protocol:?}");
    let https = with("protocol = \"https\"\ntls = { verify = false }");
    let blind = https.replacen("idle_timeout", "protocol = \"tcp\"\nidle_timeout", 1);
    let found = complaints(&blind);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("listener[0].target_group: tcp forwards"),
        "{found:?}"
    );
}
