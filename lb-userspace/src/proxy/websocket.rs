//! The gate of RFC 6455: which requests may ask a target to switch, and which
//! answers are believed.
//!
//! hyper checks none of this. A tunnel opened on less than a verified 101 lets
//! a client speak to a target past the balancer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, Version, request, response};
use sha1::{Digest, Sha1};

use super::fault::Fault;
use super::headers::{has_token, tokens};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a `Sec-WebSocket-Key` once decoded.
const KEY: usize = 16;

/// What was offered, to judge the answer by.
#[derive(Debug)]
pub(super) struct Offer {
    accept: String,
    protocols: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

/// Whether the request means to become a WebSocket. Other values of `Upgrade`
/// are dropped and the request is an ordinary one.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Lets a good upgrade request pass.
pub(super) fn check_request(head: &request::Parts) -> Result<Offer, Fault> {
    let bad = |what| Err(Fault::Malformed(what));
    let headers = &head.headers;
    if head.method != Method::GET {
        return bad("a WebSocket begins with GET");
    }
    if !matches!(head.version, Version::HTTP_11 | Version::HTTP_2) {
        return bad("a WebSocket needs HTTP/1.1 or HTTP/2");
    }
    if !single(headers, &UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
    {
        return bad("Upgrade must be exactly websocket");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return bad("Connection must name Upgrade");
    }
    if has_body(headers) {
        return bad("an upgrade request must not have a body");
    }
    match single(headers, &SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) {
        Some(b"13") => {}
        Some(_) => return Err(Fault::WebSocketVersion),
        None => return bad("exactly one Sec-WebSocket-Version is needed"),
    }
    let Some(key) = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) else {
        return bad("exactly one Sec-WebSocket-Key of 16 bytes is needed");
    };
    Ok(Offer {
        accept: accept(key.as_bytes()),
        protocols: tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
            .map(<[u8]>::to_vec)
            .collect(),
        extensions: tokens(headers, &SEC_WEBSOCKET_EXTENSIONS)
            .map(extension_name)
            .collect(),
    })
}

/// Writes the headers of this hop's own upgrade; the client's were stripped.
pub(super) fn mark_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Believes a 101 only if it answers what was offered.
pub(super) fn check_response(offer: &Offer, head: &response::Parts) -> Result<(), Fault> {
    let headers = &head.headers;
    let switched = head.status == StatusCode::SWITCHING_PROTOCOLS
        && single(headers, &UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && has_token(headers, &CONNECTION, "upgrade")
        && single(headers, &SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|value| value.as_bytes() == offer.accept.as_bytes())
        && offered_protocol(offer, headers)
        && tokens(headers, &SEC_WEBSOCKET_EXTENSIONS)
            .all(|extension| offer.extensions.contains(&extension_name(extension)))
        && !has_body(headers);
    if switched {
        Ok(())
    } else {
        Err(Fault::TargetBadUpgrade)
    }
}

/// Makes of the success that opens a stream (RFC 8441 section 5) the 101 that it stands
/// for, and believes that like any other.
pub(super) fn check_success(offer: &Offer, head: &mut response::Parts) -> Result<(), Fault> {
    let accept = HeaderValue::try_from(&offer.accept).map_err(|_| Fault::TargetBadUpgrade)?;
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    mark_upgrade(&mut head.headers);
    check_response(offer, head)
}

/// Makes of a believed 101, stripped of what is between the balancer and the target,
/// what opens the WebSocket to a client of this version (RFC 8441 section 5).
pub(super) fn mark_opened(head: &mut response::Parts, version: Version) {
    head.headers.remove(CONTENT_LENGTH);
    if version == Version::HTTP_2 {
        head.status = StatusCode::OK;
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else {
        mark_upgrade(&mut head.headers);
    }
}

/// RFC 6455 section 4.2.2: what proves that the target understood.
pub(super) fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// None, or exactly one of those offered.
fn offered_protocol(offer: &Offer, headers: &HeaderMap) -> bool {
    match single(headers, &SEC_WEBSOCKET_PROTOCOL) {
        Some(value) => offer
            .protocols
            .iter()
            .any(|offered| offered == value.as_bytes()),
        None => !headers.contains_key(SEC_WEBSOCKET_PROTOCOL),
    }
}

fn extension_name(extension: &[u8]) -> Vec<u8> {
    let name = extension
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    name.trim_ascii().to_ascii_lowercase()
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0")
}

fn is_key(value: &HeaderValue) -> bool {
    STANDARD
        .decode(value.as_bytes())
        .is_ok_and(|key| key.len() == KEY)
}

/// The value of a header that is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
