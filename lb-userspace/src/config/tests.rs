//! Whole files in, a configuration or the complete list of complaints out.

use super::*;
use crate::tls::authority::Authority;

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

/// The good file, with more lines for its listener.
fn with_listener(lines: &str) -> String {
    GOOD.replacen("[[target_group]]", &format!("{lines}\n[[target_group]]"), 1)
}

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

#[test]
fn a_syntax_error_names_its_line() {
    let found = complaints("state_dir = \"/x\"\n[admin\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("line 2"), "{found:?}");
}

#[test]
fn an_open_admin_door_needs_a_token() {
    let found = complaints(&GOOD.replace("unix:/run/limpet/admin.sock", "0.0.0.0:9900"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("admin.token_file: is required"),
        "{found:?}"
    );
}

#[test]
fn targets_can_have_names() {
    let more = "[[target_group.target]]\naddress = 'App.internal:81'\nweight = 3\n\
                [[target_group.target]]\nsrv = '_chat._tcp.internal'\n";
    let text = format!("resolver = '127.0.0.1:53'\n{GOOD}\n{more}");
    let config = Config::parse(&text).expect("a good file");
    assert_eq!(
        config.resolver,
        ["127.0.0.1:53".parse().expect("an address")]
    );
    let names = &config.target_groups[0].names;
    let names = names
        .iter()
        .map(|one| (one.question.to_string(), one.weight));
    let expected = [("app.internal:81", 3), ("_chat._tcp.internal", 1)];
    let expected = expected.map(|(name, weight)| (name.to_owned(), weight));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert_eq!(config.target_groups[0].targets.len(), 2);
}

#[test]
fn names_that_cannot_be_followed_are_refused() {
    for (lines, complaint) in [
        (
            "address = '10.0.0.256:80'",
            "address: \"10.0.0.256:80\" is not an address",
        ),
        (
            "address = 'app.internal'",
            "address: \"app.internal\" is not an address",
        ),
        (
            "srv = 'app.internal:80'",
            "srv: \"app.internal:80\" is not the name",
        ),
        (
            "srv = '_a._tcp.b'\nweight = 2",
            "weight: is said by the SRV records",
        ),
        ("srv = '_a._tcp.b'\naddress = 'c:1'", "address: unknown key"),
    ] {
        let found = complaints(&format!("{GOOD}\n[[target_group.target]]\n{lines}\n"));
        let [found] = found.as_slice() else {
            panic!("{lines}: {found:?}");
        };
        let expected = format!("target_group[0].target[2].{complaint}");
        assert!(found.starts_with(&expected), "{found}");
    }
    let twice = "[[target_group.target]]\naddress = 'a.b:1'\n".repeat(2);
    let found = complaints(&format!("{GOOD}\n{twice}"));
    let expected = "target_group[0].target[3].address: a.b:1 is in this group twice";
    assert_eq!(found, [expected]);
}

#[test]
fn a_group_without_targets_is_fine() {
    let text = "[[listener]]\nname='a'\nbind='127.0.0.1:0'\ntarget_group='g'\n[[target_group]]\nname='g'\n";
    assert!(Config::parse(text).is_ok());
}

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
    let file = std::env::temp_dir().join(format!("limpet-secret-{}", std::process::id()));
    std::fs::write(&file, b"short").expect("a file");
    let files = format!("secret_files = [{file:?}, \"/nonexistent/key\"]\nmode = \"lb_cookie\"");
    let found = complaints(&GOOD.replace("mode = \"lb_cookie\"", &files));
    std::fs::remove_file(&file).expect("the file goes");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("at least 16 are needed"), "{found:?}");
}

/// A file with one https listener and these certificates.
fn https(certificates: &str) -> String {
    let protocol = format!("protocol = \"https\"\n{certificates}\nidle_timeout = \"5m\"");
    GOOD.replace("idle_timeout = \"5m\"", &protocol)
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

/// What comes of a listener with these lines.
fn doors(lines: &str) -> Result<crate::door::Admission, Vec<String>> {
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
    assert_eq!(
        doors("").expect("a good listener"),
        crate::door::Admission::default()
    );
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

#[test]
fn the_example_is_a_good_file() {
    let text = include_str!("../../../deploy/limpet.example.toml");
    let config = Config::parse(text).expect("a good configuration");
    assert_eq!(config.target_groups[0].targets.len(), 2);
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

#[test]
fn error_pages_of_all_and_of_one() {
    let directory = std::env::temp_dir().join(format!("limpet-errors-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let page = |name: &str, text: &str| {
        let file = directory.join(name);
        std::fs::write(&file, text).expect("a page");
        file.display().to_string()
    };
    let (all, own) = (page("all.html", "all"), page("own.txt", "own"));
    let text = |own: &str| {
        format!(
            "[error_pages]\n502 = '{all}'\n503 = '{all}'\n\
             [[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\nredirect = {{}}\n{own}\n"
        )
    };
    let good = Config::parse(&text(&format!("error_pages = {{ 503 = '{own}' }}")));
    let pages = &good.expect("a good file").listeners[0].error_pages;
    let body = |code: u16| {
        let status = http::StatusCode::from_u16(code).expect("a status");
        pages.find(status).map(|page| page.body.to_vec())
    };
    assert_eq!(body(502), Some(b"all".to_vec()));
    assert_eq!(body(503), Some(b"own".to_vec()));
    assert_eq!(body(504), None);
    let odd = page("odd.png", "");
    let long = page("long.html", &"x".repeat(64 * 1024 + 1));
    let bad = format!(
        "error_pages = {{ 404 = '{all}', 502 = '/nonexistent.html', 503 = '{odd}', 504 = '{long}' }}"
    );
    let told = complaints(&text(&bad));
    for (key, what) in [
        ("listener[0].error_pages.404: ", "makes only 400, 408"),
        (
            "listener[0].error_pages.502: ",
            "/nonexistent.html cannot be read: No such file",
        ),
        ("listener[0].error_pages.503: ", "does not end in .html"),
        (
            "listener[0].error_pages.504: ",
            "is longer than 65536 bytes",
        ),
    ] {
        let found = told.iter().find(|one| one.starts_with(key));
        let said = found.is_some_and(|one| one.contains(what));
        assert!(said, "{key}{what}: {told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
    let blind = text(&format!(
        "protocol = 'tcp'\nerror_pages = {{ 503 = '{own}' }}"
    ));
    let told = complaints(&blind);
    assert!(told[0].starts_with("listener[0].error_pages: "), "{told:?}");
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn client_certificates_need_somebody_who_vouches() {
    let authority = Authority::new();
    let (files, ca) = (authority.files(&["a.test"]), authority.ca_file());
    let (cert, key) = (files.cert.display(), files.key.display());
    let listener = |protocol: &str, clients: &str| {
        let certificates = match protocol {
            "https" | "tls" => format!("certificates = [{{ cert = '{cert}', key = '{key}' }}]"),
            _ => String::new(),
        };
        format!(
            "[[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\nprotocol = '{protocol}'\n\
             target_group = 'b'\n{certificates}\nclient_certificates = {{ {clients} }}\n\
             [[target_group]]\nname = 'b'\n"
        )
    };
    let ca = ca.display();
    for (protocol, clients, asks) in [
        (
            "https",
            "mode = 'off', ca = '/nonexistent'".to_owned(),
            false,
        ),
        ("https", format!("mode = 'verify', ca = '{ca}'"), true),
        ("https", format!("mode = 'passthrough', ca = '{ca}'"), true),
        ("tls", format!("mode = 'verify', ca = '{ca}'"), true),
    ] {
        let good = Config::parse(&listener(protocol, &clients)).expect("a good file");
        assert_eq!(
            good.listeners[0].client_certificates.is_some(),
            asks,
            "{clients}"
        );
    }
    for (protocol, clients, complaint) in [
        ("https", "mode = 'verify'".to_owned(), "ca: is missing"),
        (
            "https",
            "mode = 'verify', ca = '/nonexistent'".to_owned(),
            "ca: /nonexistent cannot be read",
        ),
        (
            "https",
            format!("mode = 'verify', ca = '{key}'"),
            "holds no certificates in PEM",
        ),
        (
            "https",
            format!("mode = 'always', ca = '{ca}'"),
            "mode: \"always\" is not one of",
        ),
        (
            "http",
            format!("mode = 'verify', ca = '{ca}'"),
            "mode: needs protocol",
        ),
        (
            "tls",
            format!("mode = 'passthrough', ca = '{ca}'"),
            "mode: passthrough needs requests",
        ),
    ] {
        let told = complaints(&listener(protocol, &clients));
        let found = told.iter().any(|one| {
            one.starts_with("listener[0].client_certificates.") && one.contains(complaint)
        });
        assert!(found, "{complaint}: {told:?}");
    }
}
