//! The parts of RFC 6455 the scripted peers do by hand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The `Sec-WebSocket-Accept` that answers a key (RFC 6455, 4.2.2).
pub fn accept(key: &str) -> String {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    STANDARD.encode(digest)
}

/// A key of a client's choice.
pub fn key(seed: u64) -> String {
    STANDARD.encode([seed.to_le_bytes(), (!seed).to_le_bytes()].concat())
}

/// The head of a client's handshake.
pub fn handshake(host: &str, path: &str, key: &str, cookie: Option<&str>) -> String {
    let cookie = cookie
        .map(|cookie| format!("Cookie: {cookie}\r\n"))
        .unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{cookie}\r\n"
    )
}

/// The head of a target's answer to it.
pub fn switching(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )
}

/// One masked text frame of a client (RFC 6455, 5.2), up to 125 bytes.
pub fn text_frame(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = u8::try_from(text.len()).expect("a short text");
    assert!(length < 126, "longer texts have another length field");
    let masked = text
        .bytes()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    [0x81, 0x80 | length]
        .into_iter()
        .chain(MASK)
        .chain(masked)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::accept;

    #[test]
    fn accept_is_the_example_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
