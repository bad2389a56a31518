//! The sealed content of the cookie: XChaCha20-Poly1305 over a fixed layout.
//!
//! Clock, randomness and keys are arguments; the same secret on two balancers
//! opens each other's cookies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Keeps this use of a secret apart from any other use of the same file.
const LABEL: &[u8] = b"limpet cookie key v1\0";
const VERSION: u8 = 1;
/// Version, target, target group, creation time.
const PLAIN: usize = 1 + 8 + 8 + 8;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Length of every sealed value, as text.
pub(crate) const SEALED_TEXT: usize = (NONCE + PLAIN + TAG) * 4 / 3 + 1;

/// Random bytes for one seal; they must never repeat under a key.
pub(crate) type Nonce = [u8; NONCE];

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
    keys: Vec<XChaCha20Poly1305>,
}

impl Keyring {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        Self {
            keys: secrets.iter().map(key).collect(),
        }
    }

    /// Seals with the first key; `None` only on an empty ring.
    pub(crate) fn seal(&self, payload: &Payload, nonce: &Nonce) -> Option<String> {
        let sealed = self
            .keys
            .first()?
            .encrypt(XNonce::from_slice(nonce), &encode(payload)[..]);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.ok()?);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens what any of the keys sealed.
    pub(crate) fn open(&self, text: &[u8]) -> Option<Payload> {
        if text.len() != SEALED_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let nonce = XNonce::from_slice(nonce);
        self.keys
            .iter()
            .find_map(|key| decode(&key.decrypt(nonce, sealed).ok()?))
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

fn key(secret: &Secret) -> XChaCha20Poly1305 {
    let digest = Sha256::new()
        .chain_update(LABEL)
        .chain_update(secret.bytes())
        .finalize();
    XChaCha20Poly1305::new(Key::from_slice(&digest))
}

fn encode(payload: &Payload) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for number in [payload.target, payload.group, payload.created] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Payload> {
    let (&VERSION, numbers) = bytes.split_first()? else {
        return None;
    };
    let (numbers, []) = numbers.as_chunks::<8>() else {
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
