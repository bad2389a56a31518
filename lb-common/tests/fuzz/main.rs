//! The checks of the fuzz targets on stable Rust: stored seeds, and random bytes shaped
//! so that they come far. `fuzz/README.md` says how to let libFuzzer search.

#[path = "../../../fuzz/checks/event.rs"]
mod event;
#[path = "../../../fuzz/checks/frame.rs"]
mod frame;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn frames(mut input in vec(any::<u8>(), 20..200), shape in shape()) {
        for (at, byte) in shape {
            if let Some(place) = input.get_mut(20 + at) {
                *place = byte;
            }
        }
        frame::check(&input);
    }

    #[test]
    fn events(input in prop_oneof![vec(any::<u8>(), 56), vec(any::<u8>(), 0..100)]) {
        event::check(&input);
    }
}

/// Bytes, by their place in the frame, without which nothing is looked at further:
/// ethertype, version, protocol; of ICMP its type and those of the quoted packet.
fn shape() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let v4 = [
        (12, 0x08),
        (13, 0),
        (14, 0x45),
        (16, 0),
        (20, 0x40),
        (21, 0),
    ];
    let v6 = [(12, 0x86), (13, 0xdd), (18, 0)];
    let tcp_v4 = [&v4[..], &[(23, 6)]].concat();
    let tcp_v6 = [&v6[..], &[(20, 6)]].concat();
    // The outer destination is the quoted source.
    let quoted_v4 = [
        (30, 9),
        (31, 9),
        (32, 9),
        (33, 9),
        (54, 9),
        (55, 9),
        (56, 9),
        (57, 9),
    ];
    let icmp_v4 = [
        (23, 1),
        (34, 3),
        (35, 4),
        (42, 0x45),
        (48, 0),
        (49, 0),
        (51, 6),
    ];
    let icmp_v4 = [&v4[..], &icmp_v4, &quoted_v4].concat();
    let quoted_v6 = (0..16).flat_map(|byte| [(38 + byte, 9), (70 + byte, 9)]);
    let icmp_v6 = [&v6[..], &[(20, 58), (54, 2), (68, 6)]].concat();
    let icmp_v6 = icmp_v6.into_iter().chain(quoted_v6).collect();
    let kinds = prop_oneof![
        Just(vec![]),
        Just(tcp_v4),
        Just(tcp_v6),
        Just(icmp_v4),
        Just(icmp_v6),
    ];
    (kinds, any::<u8>(), any::<[bool; 2]>()).prop_map(|(mut kind, length, [whole, options])| {
        if let Some((_, ethertype)) = kind.first().copied() {
            let (field, tcp) = if ethertype == 0x08 {
                (17, 34)
            } else {
                (19, 54)
            };
            kind.extend(whole.then_some((field, length)));
            kind.extend((whole && !options).then_some((tcp + 12, 0x50)));
        }
        kind
    })
}

#[test]
fn stored_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (name, check) in [
        ("frame", frame::check as fn(&[u8])),
        ("event", event::check),
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
}

/// Hex digits, two a byte, in lines.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.split_whitespace().flat_map(str::chars).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits
        .chunks(2)
        .map(|pair| byte(pair).expect("hex"))
        .collect()
}
