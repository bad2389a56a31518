//! No bytes are a cookie of ours but those we have sealed; and whatever stands in Cookie
//! headers, ours are found and hidden, and all others stay.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

use crate::config::Secret;
use crate::proxy::cookie;
use crate::proxy::seal::{Keyring, Payload};

const NAME: &str = "LIMPET";
/// A nonce, three numbers, and which byte is changed into which.
const SEAL: usize = 24 + 3 * 8 + 2;

/// The input is a value, what one is sealed of, and headers, one a line.
pub fn check(input: &[u8]) {
    let secret = Secret::new(b"sixteen and more bytes".to_vec()).expect("long enough");
    let ring = Keyring::new(&[secret]);
    assert_eq!(ring.open(input), None, "sealed by nobody");
    if let Some(material) = input.first_chunk() {
        sealed(&ring, material);
    }
    pairs(input);
}

fn sealed(ring: &Keyring, material: &[u8; SEAL]) {
    let (nonce, rest) = material.split_first_chunk::<24>().expect("a nonce");
    let (numbers, change) = rest.as_chunks::<8>();
    let &[target, group, created] = numbers else {
        panic!("three numbers");
    };
    let payload = Payload {
        target: u64::from_be_bytes(target),
        group: u64::from_be_bytes(group),
        created: u64::from_be_bytes(created),
    };
    let mut text = ring.seal(&payload, nonce).expect("a key").into_bytes();
    assert_eq!(ring.open(&text), Some(payload), "what was sealed is opened");
    let &[at, by] = change else {
        panic!("a change");
    };
    let at = usize::from(at) % text.len();
    let byte = text.get_mut(at).expect("a byte of it");
    *byte = byte.wrapping_add(by.max(1));
    assert_eq!(ring.open(&text), None, "byte {at} was changed");
}

fn pairs(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let (ours, others) = told_apart(&headers);
    let found: Vec<&[u8]> = cookie::values(&headers, NAME).collect();
    assert_eq!(found, ours, "ours, in order");
    let mut hidden = headers.clone();
    cookie::hide(&mut hidden, NAME);
    let (ours, left) = told_apart(&hidden);
    assert!(ours.is_empty(), "ours are hidden: {hidden:?}");
    assert_eq!(left, others, "others stay, in order");
}

/// The values of our pairs, and all else that is between semicolons.
fn told_apart(headers: &HeaderMap) -> (Vec<&[u8]>, Vec<&[u8]>) {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for header in headers.get_all(COOKIE) {
        for piece in header.as_bytes().split(|byte| *byte == b';') {
            let mut halves = piece.splitn(2, |byte| *byte == b'=');
            let name = halves.next().unwrap_or_default().trim_ascii();
            match halves.next() {
                Some(value) if name == NAME.as_bytes() => ours.push(value.trim_ascii()),
                Some(_) | None if piece.trim_ascii().is_empty() => {}
                Some(_) | None => others.push(piece.trim_ascii()),
            }
        }
    }
    (ours, others)
}
