//! Stored seeds, and random inputs shaped so that they come far.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{config, cookie, hello, proxy_header, rules};

const EXAMPLE: &str = include_str!("../../../../deploy/limpet.example.toml");
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn cookies(input in prop_oneof![vec(any::<u8>(), 0..200), words(COOKIE_WORDS)]) {
        cookie::check(&input);
    }

    #[test]
    fn rules_of_any_request(input in prop_oneof![vec(any::<u8>(), 0..100), lines()]) {
        rules::check(&input);
    }

    #[test]
    fn hellos(input in damaged(hello_of_a_client())) {
        hello::check(&input);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn proxy_headers(input in prop_oneof![version_2(), words(LINE_WORDS)]) {
        proxy_header::check(&input);
    }

    #[test]
    fn configurations(input in files()) {
        config::check(input.as_bytes());
    }
}

/// The same inputs each time: the search is libFuzzer's.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(4),
        ..ProptestConfig::default()
    }
}

/// Pieces of Cookie headers.
const COOKIE_WORDS: &[&str] = &[
    "LIMPET", "LIMPETS", "limpet", "=", ";", "; ", " ", "\t", "\n", "a", "\"", ",", "\u{e9}",
];
/// Pieces of version 1.
const LINE_WORDS: &[&str] = &[
    "PROXY TCP4 192.0.2.1 192.0.2.2 ",
    "PROXY TCP6 2001:db8::1 2001:db8::2 ",
    "PROXY UNKNOWN",
    "1 65535\r\n",
    "0 65536\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "12",
    "::1",
    "GET / HTTP/1.1\r\n\r\n",
];
/// Pieces of patterns and requests.
const RULE_WORDS: &[&str] = &[
    "*", "?", "a", "A", "b", "/", ":", "[", "]", "&", "=", "#", "%20", "\u{e9}",
];

/// Any of these, one after the other.
fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(of), 0..12).prop_map(|words| words.concat().into_bytes())
}

/// What `rules` reads; a target, so that there is a request.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    vec(words(RULE_WORDS), 6).prop_map(|mut lines| {
        if let Some(target) = lines.last_mut() {
            target.insert(0, b'/');
        }
        lines.join(&b'\n')
    })
}

/// A signature and what may come behind it.
fn version_2() -> impl Strategy<Value = Vec<u8>> {
    let command = prop::sample::select(&[0x20, 0x21, 0x22, 0x31][..]);
    let family = prop::sample::select(&[0x00, 0x11, 0x12, 0x21, 0x31, 0x41][..]);
    let length = prop_oneof![0..64u16, any::<u16>()];
    let rest = vec(any::<u8>(), 0..300);
    (command, family, length, rest).prop_map(|(command, family, length, rest)| {
        let length = length.to_be_bytes();
        [SIGNATURE, &[command, family], &length, &rest].concat()
    })
}

fn hello_of_a_client() -> Vec<u8> {
    let authority = crate::tls::authority::Authority::new();
    let name = "a.test".try_into().expect("a name");
    let config = std::sync::Arc::new(authority.client(&["h2"]));
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

/// How it is cut; then these bytes with some changed, and others behind them.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((0..bytes.len(), any::<u8>()), 0..3);
    (any::<u8>(), changes, vec(any::<u8>(), 0..40)).prop_map(move |(step, changes, behind)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        [&[step][..], &bytes, &behind].concat()
    })
}

/// The example with lines left out, taken in, and changed.
fn files() -> impl Strategy<Value = String> {
    let values = [
        "0",
        "-1",
        "''",
        "true",
        "[]",
        "{}",
        "'1h'",
        "'9999999d'",
        "1e9",
        "'*'",
        "[",
    ];
    let what = (0..100u8, prop::sample::select(values.to_vec()));
    vec(what, EXAMPLE.lines().count()).prop_map(|choices| {
        let lines = EXAMPLE.lines().zip(choices);
        let changed = lines.map(|(line, (choice, value))| match choice {
            0 => line.trim_start_matches("# ").to_owned(),
            1 => String::new(),
            2 => match line.split_once(" = ") {
                Some((key, _)) => format!("{} = {value}", key.trim_start_matches("# ")),
                None => line.to_owned(),
            },
            _ => line.to_owned(),
        });
        changed.collect::<Vec<_>>().join("\n")
    })
}

#[test]
fn stored_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (name, check) in [
        ("cookie", cookie::check as fn(&[u8])),
        ("proxy_header", proxy_header::check),
        ("hello", hello::check),
        ("rules", rules::check),
        ("config", config::check),
    ] {
        let files = fs::read_dir(seeds.join(name)).expect("seeds are stored");
        let mut count = 0;
        for file in files {
            let path = file.expect("a seed").path();
            let text = fs::read_to_string(&path).expect("a seed in hex");
            println!("{}", path.display());
            check(&bytes(&text));
            count += 1;
        }
        assert!(count > 0, "no seeds for {name}");
    }
    config::check(EXAMPLE.as_bytes());
}

/// Hex digits, two a byte, in lines.
fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("hex");
    pairs.map(byte).collect()
}
