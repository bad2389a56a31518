//! The upgrade gate as a table: one thing wrong at a time.

use http::{Request, Response};

use super::*;

const KEY_TEXT: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT_TEXT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", KEY_TEXT),
];

fn request(method: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).version(version).uri("/");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a request").into_parts().0
}

fn status(headers: &[(&str, &str)]) -> u16 {
    let head = request("GET", Version::HTTP_11, headers);
    check_request(&head).map_or_else(|fault| fault.status().as_u16(), |_| 101)
}

/// The good request with one header replaced; an empty value removes it.
fn with(name: &str, value: &str) -> u16 {
    let mut headers: Vec<_> = GOOD
        .iter()
        .copied()
        .filter(|(other, _)| *other != name)
        .collect();
    if !value.is_empty() {
        headers.push((name, value));
    }
    status(&headers)
}

/// The good request with one header more.
fn and(name: &str, value: &str) -> u16 {
    let mut headers = GOOD.to_vec();
    headers.push((name, value));
    status(&headers)
}

#[test]
fn one_thing_wrong_at_a_time() {
    assert_eq!(status(&GOOD), 101);
    assert_eq!(with("upgrade", "WebSocket"), 101);
    assert_eq!(with("upgrade", "websocket, h2c"), 400);
    assert_eq!(and("upgrade", "websocket"), 400);
    assert_eq!(with("connection", ""), 400);
    assert_eq!(with("connection", "keep-alive"), 400);
    assert_eq!(with("sec-websocket-version", ""), 400);
    assert_eq!(with("sec-websocket-version", "12"), 426);
    assert_eq!(with("sec-websocket-version", "013"), 426);
    assert_eq!(and("sec-websocket-version", "13"), 400);
    assert_eq!(with("sec-websocket-key", ""), 400);
    assert_eq!(with("sec-websocket-key", "c2hvcnQ="), 400);
    assert_eq!(with("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!=="), 400);
    assert_eq!(and("sec-websocket-key", KEY_TEXT), 400);
    assert_eq!(and("content-length", "0"), 101);
    assert_eq!(and("content-length", "5"), 400);
    assert_eq!(and("transfer-encoding", "chunked"), 400);
}

#[test]
fn only_get_and_only_http_1_1() {
    assert!(check_request(&request("POST", Version::HTTP_11, &GOOD)).is_err());
    assert!(check_request(&request("GET", Version::HTTP_10, &GOOD)).is_err());
}

fn offer() -> Offer {
    let mut headers = GOOD.to_vec();
    headers.push(("sec-websocket-protocol", "chat, superchat"));
    headers.push((
        "sec-websocket-extensions",
        "permessage-deflate; client_max_window_bits",
    ));
    check_request(&request("GET", Version::HTTP_11, &headers)).expect("a good request")
}

fn believed(status: u16, headers: &[(&str, &str)]) -> bool {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let head = builder.body(()).expect("a response").into_parts().0;
    check_response(&offer(), &head).is_ok()
}

#[test]
fn only_a_101_that_answers_the_offer_is_believed() {
    const UP: (&str, &str) = ("upgrade", "websocket");
    const CONN: (&str, &str) = ("connection", "upgrade");
    const ACC: (&str, &str) = ("sec-websocket-accept", ACCEPT_TEXT);
    assert!(believed(101, &[UP, CONN, ACC]));
    assert!(believed(
        101,
        &[UP, CONN, ACC, ("sec-websocket-protocol", "chat")]
    ));
    assert!(believed(
        101,
        &[
            UP,
            CONN,
            ACC,
            ("sec-websocket-extensions", "permessage-deflate")
        ]
    ));
    assert!(!believed(200, &[UP, CONN, ACC]));
    assert!(!believed(426, &[UP, CONN, ACC]));
    assert!(!believed(101, &[CONN, ACC]));
    assert!(!believed(101, &[("upgrade", "h2c"), CONN, ACC]));
    assert!(!believed(101, &[UP, ACC]));
    assert!(!believed(101, &[UP, CONN]));
    assert!(!believed(
        101,
        &[
            UP,
            CONN,
            ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        ]
    ));
    assert!(!believed(101, &[UP, CONN, ACC, ACC]));
    assert!(!believed(
        101,
        &[UP, CONN, ACC, ("sec-websocket-protocol", "other")]
    ));
    assert!(!believed(
        101,
        &[UP, CONN, ACC, ("sec-websocket-protocol", "chat, superchat")]
    ));
    assert!(!believed(
        101,
        &[UP, CONN, ACC, ("sec-websocket-extensions", "x-other")]
    ));
    assert!(!believed(101, &[UP, CONN, ACC, ("content-length", "3")]));
}
