//! The seal that a client has shown last: it comes with nearly all requests of a
//! connection, and to open it takes longer than all else that stickiness does for one.

use std::sync::{Mutex, PoisonError};

use super::seal::{Keyring, Payload, RingId, SEALED_TEXT};

/// Of one client's connection.
#[derive(Debug, Default)]
pub(super) struct LastSeal(Mutex<Option<Box<Opened>>>);

#[derive(Debug)]
struct Opened {
    by: RingId,
    text: [u8; SEALED_TEXT],
    payload: Payload,
}

impl LastSeal {
    /// What `keys` make of the text; the same as they made of it last, if it is the same.
    pub(super) fn open(&self, keys: &Keyring, text: &[u8]) -> Option<Payload> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*last
            && opened.by == keys.id()
            && opened.text == text
        {
            return Some(opened.payload);
        }
        let payload = keys.open(text)?;
        *last = Some(Box::new(Opened {
            by: keys.id(),
            text: text.try_into().ok()?,
            payload,
        }));
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_the_same_text_means_the_same_to_the_same_keys() {
        let ring = |secret| Keyring::new(&[Secret::new(vec![secret; 16]).expect("long enough")]);
        let (ours, others) = (ring(1), ring(2));
        let payload = |target| Payload {
            target,
            group: 5,
            created: 9,
        };
        let seal = |keys: &Keyring, target| {
            let text = keys.seal(&payload(target), &[3; 24]).expect("sealed");
            text.into_bytes()
        };
        let last = LastSeal::default();
        let (first, second) = (seal(&ours, 1), seal(&ours, 2));
        for _ in 0..2 {
            for (text, target) in [(&first, 1), (&first, 1), (&second, 2)] {
                assert_eq!(last.open(&ours, text), Some(payload(target)));
                assert_eq!(last.open(&others, text), None);
            }
        }
        // One that has been opened helps none that is like it.
        for at in 0..second.len() {
            let mut forged = second.clone();
            forged[at] ^= 1;
            assert_eq!(last.open(&ours, &forged), None, "byte {at}");
        }
        assert_eq!(last.open(&ours, &second[1..]), None);
        let theirs = seal(&others, 1);
        assert_eq!(last.open(&others, &theirs), Some(payload(1)));
        assert_eq!(last.open(&ours, &theirs), None);
    }
}
