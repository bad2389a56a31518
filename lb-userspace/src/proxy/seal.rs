//! The sealed content of the cookie: XChaCha20-Poly1305 over a fixed layout.
//!
//! Clock, randomness and keys are arguments; the same secret on two balancers
//! opens each other's cookies.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20::cipher::consts::U10;
use chacha20::hchacha;
use ring::aead::{self, Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Keeps this use of a secret apart from any other use of the same file.
const LABEL: &[u8] = b"limpet cookie key v1\0";
const VERSION: u8 = 1;
const NUMBER: usize = size_of::<u64>();
/// Version, target, target group, creation time.
const PLAIN: usize = 1 + 3 * NUMBER;
const NONCE: usize = 24;
/// What of the nonce goes into the key of one seal.
const KEY_NONCE: usize = 16;
const TAG: usize = 16;
const SEALED: usize = NONCE + PLAIN + TAG;
/// Length of every sealed value, as text.
pub(crate) const SEALED_TEXT: usize = SEALED * 4 / 3 + 1;

/// Random bytes for one seal; they must never repeat under a key.
pub(crate) type Nonce = [u8; NONCE];
type Key = [u8; 32];

/// What the cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) target: u64,
    pub(crate) group: u64,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// The keys: the first seals, all open.
pub(crate) struct Keyring {
    id: RingId,
    keys: Vec<Key>,
}

/// Tells one ring of this process from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RingId(u64);

impl RingId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Keyring {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        Self {
            id: RingId::next(),
            keys: secrets.iter().map(key).collect(),
        }
    }

    pub(super) fn id(&self) -> RingId {
        self.id
    }

    /// Seals with the first key; `None` only on an empty ring.
    pub(crate) fn seal(&self, payload: &Payload, nonce: &Nonce) -> Option<String> {
        let (cipher, rest) = cipher(self.keys.first()?, nonce)?;
        let mut content = encode(payload);
        let tag = cipher.seal_in_place_separate_tag(rest, Aad::empty(), &mut content);
        let bytes = [nonce.as_slice(), &content, tag.ok()?.as_ref()].concat();
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens what any of the keys sealed.
    pub(crate) fn open(&self, text: &[u8]) -> Option<Payload> {
        if text.len() != SEALED_TEXT {
            return None;
        }
        // The decoder wants room for whole groups of three.
        let mut bytes = [0; SEALED.next_multiple_of(3)];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (nonce, sealed) = bytes.get(..length)?.split_first_chunk()?;
        self.keys.iter().find_map(|key| {
            let (cipher, rest) = cipher(key, nonce)?;
            let mut sealed: [u8; PLAIN + TAG] = sealed.try_into().ok()?;
            decode(cipher.open_in_place(rest, Aad::empty(), &mut sealed).ok()?)
        })
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

fn key(secret: &Secret) -> Key {
    Sha256::new()
        .chain_update(LABEL)
        .chain_update(secret.bytes())
        .finalize()
        .into()
}

/// XChaCha20-Poly1305 is ChaCha20-Poly1305 by a key of one nonce's own
/// (draft-irtf-cfrg-xchacha section 2.3). The latter is ring's: one seal opened by the
/// crate chacha20poly1305 takes five times as long.
fn cipher(key: &Key, nonce: &Nonce) -> Option<(LessSafeKey, aead::Nonce)> {
    let (of_key, rest) = nonce.split_first_chunk::<KEY_NONCE>()?;
    let key = hchacha::<U10>(key.into(), of_key.into());
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?);
    let mut short = [0; aead::NONCE_LEN];
    let (_, end) = short.split_last_chunk_mut::<{ NONCE - KEY_NONCE }>()?;
    *end = rest.try_into().ok()?;
    Some((cipher, aead::Nonce::assume_unique_for_key(short)))
}

fn encode(payload: &Payload) -> [u8; PLAIN] {
    let mut bytes = [VERSION; PLAIN];
    let (numbers, _) = bytes[1..].as_chunks_mut::<NUMBER>();
    for (to, number) in numbers
        .iter_mut()
        .zip([payload.target, payload.group, payload.created])
    {
        *to = number.to_be_bytes();
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Payload> {
    let (&VERSION, numbers) = bytes.split_first()? else {
        return None;
    };
    let (numbers, []) = numbers.as_chunks::<NUMBER>() else {
        return None;
    };
    let [target, group, created] = *numbers else {
        return None;
    };
    Some(Payload {
        target: u64::from_be_bytes(target),
        group: u64::from_be_bytes(group),
        created: u64::from_be_bytes(created),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: Payload = Payload {
        target: 1,
        group: 2,
        created: 3,
    };

    fn ring(secrets: &[&[u8]]) -> Keyring {
        let secrets: Vec<Secret> = secrets
            .iter()
            .map(|bytes| Secret::new(bytes.to_vec()).expect("long enough"))
            .collect();
        Keyring::new(&secrets)
    }

    const OLD: &[u8] = b"0123456789abcdef";
    const NEW: &[u8] = b"fedcba9876543210";

    #[test]
    fn opens_what_it_sealed_in_under_100_bytes() {
        let sealed = ring(&[OLD]).seal(&PAYLOAD, &[7; NONCE]).expect("sealed");
        assert_eq!(sealed.len(), SEALED_TEXT);
        assert!(sealed.len() < 100 - "LIMPET=".len());
        assert_eq!(ring(&[OLD]).open(sealed.as_bytes()), Some(PAYLOAD));
    }

    /// It is XChaCha20-Poly1305, as others have it.
    #[test]
    fn opens_and_is_opened_by_another_implementation() {
        use chacha20poly1305::aead::{Aead, KeyInit};
        use chacha20poly1305::{XChaCha20Poly1305, XNonce};

        let ring = ring(&[OLD]);
        let other = XChaCha20Poly1305::new((&ring.keys[0]).into());
        for byte in 0..=255 {
            let nonce = [byte; NONCE];
            let sealed = ring.seal(&PAYLOAD, &nonce).expect("sealed");
            let bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("text");
            let content = other.decrypt(XNonce::from_slice(&nonce), &bytes[NONCE..]);
            assert_eq!(content.expect("opened"), encode(&PAYLOAD));
            let content = other.encrypt(XNonce::from_slice(&nonce), &encode(&PAYLOAD)[..]);
            let bytes = [&nonce[..], &content.expect("sealed")].concat();
            assert_eq!(URL_SAFE_NO_PAD.encode(bytes), sealed);
        }
    }

    #[test]
    fn every_flipped_bit_of_every_byte_fails() {
        let ring = ring(&[OLD]);
        let sealed = ring
            .seal(&PAYLOAD, &[7; NONCE])
            .expect("sealed")
            .into_bytes();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut forged = sealed.clone();
                forged[at] ^= 1 << bit;
                assert_eq!(ring.open(&forged), None, "byte {at}, bit {bit}");
            }
        }
        assert_eq!(ring.open(&sealed[1..]), None);
        assert_eq!(ring.open(b""), None);
    }

    #[test]
    fn rotation_opens_both_and_seals_with_the_first() {
        let sealed = ring(&[OLD]).seal(&PAYLOAD, &[7; NONCE]).expect("sealed");
        assert_eq!(ring(&[NEW, OLD]).open(sealed.as_bytes()), Some(PAYLOAD));
        assert_eq!(ring(&[NEW]).open(sealed.as_bytes()), None);
        let sealed = ring(&[NEW, OLD])
            .seal(&PAYLOAD, &[7; NONCE])
            .expect("sealed");
        assert_eq!(ring(&[OLD]).open(sealed.as_bytes()), None);
    }
}
