//! The body of an Engine.IO handshake (Socket.IO's transport) on its way to a client:
//! it names the id that the client will come back with.
//!
//! Understood: `0{"sid":"…",…}` of Engine.IO 4 (protocol revision 4, "Handshake"), the
//! same behind the length of revision 3, in text (`96:0{…}`) or bytes, and the script
//! that JSONP wraps around either.

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::{Response, StatusCode};
use serde_json::{Deserializer, Map, Value};

use crate::target::Group;

/// The handshake is a few hundred bytes; whatever comes later is something else.
const LONGEST: usize = 4096;
/// The most that stands in front of the object, in any of the forms.
const FRONT: usize = 16;
/// What JSONP begins with.
const SCRIPT: &[u8] = b"___eio[";

/// Whether the answer may be a handshake that can be read.
pub(super) fn may_begin<T>(answer: &Response<T>) -> bool {
    answer.status() == StatusCode::OK && !answer.headers().contains_key(CONTENT_ENCODING)
}

/// Listens to one answer, until it has heard the id or enough of something else.
#[derive(Debug)]
pub(in super::super) struct Ear {
    key: String,
    group: Arc<Group>,
    target: u64,
    now: u64,
    heard: Vec<u8>,
}

impl Ear {
    pub(super) fn new(key: String, group: Arc<Group>, target: u64, now: u64) -> Self {
        Self {
            key,
            group,
            target,
            now,
            heard: Vec::new(),
        }
    }

    /// A piece of the body, before the client has it; false when it has heard enough.
    pub(in super::super) fn hear(&mut self, piece: &[u8]) -> bool {
        let room = LONGEST.saturating_sub(self.heard.len());
        self.heard.extend(piece.iter().take(room));
        match id(&self.heard, &self.key) {
            Heard::Id(id) => {
                self.group.ids().learn(id.as_bytes(), self.target, self.now);
                false
            }
            Heard::Nothing => false,
            Heard::TooLittle => self.heard.len() < LONGEST,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Id(String),
    /// It is no handshake.
    Nothing,
    TooLittle,
}

/// The id in the beginning of a body.
fn id(body: &[u8], key: &str) -> Heard {
    match body.starts_with(SCRIPT) {
        true => script(body, key),
        false => packet(body, key),
    }
}

/// The packet is the one argument of a call: `___eio[0]("0{\"sid\":…}");`
fn script(body: &[u8], key: &str) -> Heard {
    let Some(open) = body.iter().position(|byte| *byte == b'"') else {
        return nothing_yet(body);
    };
    let text = body.get(open..).unwrap_or_default();
    match Deserializer::from_slice(text).into_iter::<String>().next() {
        Some(Ok(packet)) => match self::packet(packet.as_bytes(), key) {
            // It is whole.
            Heard::TooLittle => Heard::Nothing,
            heard => heard,
        },
        Some(Err(error)) if error.is_eof() => Heard::TooLittle,
        Some(Err(_)) | None => Heard::Nothing,
    }
}

/// The type `0`, perhaps behind a length, then an object.
fn packet(body: &[u8], key: &str) -> Heard {
    let Some(open) = body.iter().position(|byte| *byte == b'{') else {
        return nothing_yet(body);
    };
    let (front, json) = body.split_at(open);
    if !opens(front) {
        return Heard::Nothing;
    }
    let mut objects = Deserializer::from_slice(json).into_iter::<Map<String, Value>>();
    match objects.next() {
        Some(Ok(object)) => match object.get(key) {
            Some(Value::String(id)) => Heard::Id(id.clone()),
            Some(_) | None => Heard::Nothing,
        },
        Some(Err(error)) if error.is_eof() => Heard::TooLittle,
        Some(Err(_)) | None => Heard::Nothing,
    }
}

/// Whether this is what stands in front of the object.
fn opens(front: &[u8]) -> bool {
    let Some(length) = front.strip_suffix(b"0") else {
        return false;
    };
    match length {
        [] => true,
        [digits @ .., b':'] => digits.iter().all(u8::is_ascii_digit),
        [0, digits @ .., u8::MAX] => digits.iter().all(|digit| *digit <= 9),
        _ => false,
    }
}

fn nothing_yet(body: &[u8]) -> Heard {
    match body.len() < FRONT {
        true => Heard::TooLittle,
        false => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    /// The ways in which servers send it.
    fn bodies() -> [Vec<u8>; 5] {
        let packet = format!("0{JSON}");
        let binary = [&[0, 1, 1, 8, u8::MAX][..], packet.as_bytes()].concat();
        let quoted = serde_json::to_string(&packet).expect("a string");
        [
            packet.clone().into_bytes(),
            format!("118:{packet}2:40").into_bytes(),
            binary,
            format!("___eio[0]({quoted});").into_bytes(),
            format!(
                "___eio[12]({});",
                serde_json::to_string(&format!("118:{packet}")).expect("a string")
            )
            .into_bytes(),
        ]
    }

    fn found(body: &[u8]) -> bool {
        id(body, "sid") == Heard::Id("lv_VI97HAXpY6yYWAAAC".to_owned())
    }

    #[test]
    fn the_id_is_found_once_the_object_is_whole() {
        for body in bodies() {
            let heard: Vec<Heard> = (0..=body.len())
                .map(|end| id(&body[..end], "sid"))
                .collect();
            let first = heard.iter().position(|heard| *heard != Heard::TooLittle);
            let first = first.expect("an id");
            assert!(
                heard[first..]
                    .iter()
                    .all(|heard| matches!(heard, Heard::Id(_)))
            );
            assert!(found(&body), "{}", String::from_utf8_lossy(&body));
            assert_eq!(id(&body, "io"), Heard::Nothing);
        }
    }

    #[test]
    fn other_answers_are_none() {
        for body in [
            "4{\"sid\":\"a\"}",
            "{\"sid\":\"a\"}",
            "10{\"sid\":\"a\"}",
            "0{\"sid\":7}",
            "0{]",
            "0[\"sid\"]          ",
            "<!doctype html><html>",
            "___eio[0](alert(1));",
        ] {
            assert_eq!(id(body.as_bytes(), "sid"), Heard::Nothing, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200usize) {
            let mut mixed = bodies()[3][..cut.min(bodies()[3].len())].to_vec();
            mixed.extend(&body);
            id(&body, "sid");
            id(&mixed, "sid");
        }
    }
}
