//! Who a listener lets in.

use super::GOOD;
use crate::config::Config;
use crate::door::Admission;

/// What comes of a listener with these lines.
fn doors(lines: &str) -> Result<Admission, Vec<String>> {
    let text = GOOD.replace("idle_timeout = \"5m\"", lines);
    let config = Config::parse(&text)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(config.listeners[0].admission.clone())
}

#[test]
fn networks_are_taken_at_their_word() {
    let allow = |text: &str| {
        doors(&format!("allow = {text}"))
            .expect("a good listener")
            .allow
    };
    assert_eq!(allow("\"0.0.0.0/0\""), None, "the default");
    assert_eq!(doors("").expect("a good listener"), Admission::default());
    let networks = allow("[\"0.0.0.0/0\", \"fd00::/8\", \"fe80::1\"]").expect("networks");
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["0.0.0.0/0", "fd00::/8", "fe80::1/128"]);
    let admission = doors("syn_rate_per_source = 20").expect("a good listener");
    assert_eq!((admission.allow, admission.rate), (None, 20));
}

#[test]
fn bad_networks_name_their_key() {
    for (lines, message) in [
        ("allow = []", "lets nobody in"),
        ("allow = [\"10.0.0.0/33\"]", "is not a range of addresses"),
        ("allow = [\"chat.example\"]", "is not a range of addresses"),
        ("allow = [\"10.0.0.1/8\"]", "it is 10.0.0.0/8"),
        ("allow = [\"::ffff:10.0.0.0/104\"]", "write it as IPv4"),
        ("syn_rate_per_source = -1", "is not between"),
        ("syn_rate_per_source = 2000000", "is not between"),
    ] {
        let found = doors(lines).expect_err(lines);
        let key = format!("listener[0].{}: ", lines.split(' ').next().expect("a key"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&key) && found[0].contains(message),
            "{found:?}"
        );
    }
    let networks: Vec<String> = (0..5000)
        .map(|n| format!("\"10.0.{}.{}\"", n / 256, n % 256))
        .collect();
    let found = doors(&format!("allow = [{}]", networks.join(", "))).expect_err("too many");
    assert!(found[0].contains("can have 4096 networks"), "{found:?}");
}
