//! A request as HTTP/2 writes it, brought into the shape that one of HTTP/1.1 has
//! here (RFC 9113 section 8.3, RFC 8441 section 4), so that all stages after it need
//! to know of one shape only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{COOKIE, HOST, HeaderValue, SEC_WEBSOCKET_KEY};
use http::uri::Authority;
use http::{HeaderMap, Method, request};

use crate::config::Limits;
use crate::proxy::fault::Fault;
use crate::proxy::gate;
use crate::proxy::websocket;

/// Whether the client asks for a tunnel for some protocol on this stream.
pub(super) fn is_extended_connect(head: &request::Parts) -> bool {
    head.method == Method::CONNECT && head.extensions.get::<Protocol>().is_some()
}

/// Says with headers what HTTP/2 says otherwise. The library has refused headers that
/// HTTP/2 does not have (`Connection` and its kind).
pub(super) fn arrange(head: &mut request::Parts, limits: &Limits) -> Result<(), Fault> {
    name_host(head)?;
    join_cookies(&mut head.headers)?;
    if head.headers.len() > limits.header_count || size(head) > limits.header_bytes {
        return Err(Fault::HeadersTooLarge);
    }
    if is_extended_connect(head) {
        ask_for_websocket(head)?;
    }
    Ok(())
}

/// Bytes of names and values, as HTTP/1.1 would count them.
fn size(head: &request::Parts) -> usize {
    let fields = head.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    let path = head.uri.path_and_query();
    fields + path.map_or(0, |path| path.as_str().len())
}

/// `:authority` is the host, and `Host` must not say anything else.
fn name_host(head: &mut request::Parts) -> Result<(), Fault> {
    let Some(authority) = head.uri.authority().map(Authority::as_str) else {
        return Ok(());
    };
    match head.headers.get(HOST) {
        Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Fault::Malformed("Host and the request target differ"));
        }
        Some(_) => {}
        None => {
            let host = HeaderValue::from_str(authority)
                .map_err(|_| Fault::Malformed("the authority is malformed"))?;
            head.headers.insert(HOST, host);
        }
    }
    // A plain CONNECT names nothing but the authority, and the gate refuses it.
    if head.uri.path_and_query().is_some() {
        head.uri = gate::origin_form(&head.uri)?;
    }
    Ok(())
}

/// HTTP/2 may send each cookie in a field of its own (RFC 9113 section 8.2.3): one
/// field before anybody looks, and no longer than one may be (CVE-2026-49975).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Fault> {
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let separators = 2 * crumbs.len().saturating_sub(1);
    if crumbs.iter().map(|crumb| crumb.len()).sum::<usize>() + separators > gate::HEADER_MAX {
        return Err(Fault::HeadersTooLarge);
    }
    if crumbs.len() > 1 {
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
            .map_err(|_| Fault::Malformed("Cookie is malformed"))?;
        headers.insert(COOKIE, joined);
    }
    Ok(())
}

/// The handshake of RFC 6455 that an extended CONNECT stands for; targets get that.
fn ask_for_websocket(head: &mut request::Parts) -> Result<(), Fault> {
    let protocol = head.extensions.remove::<Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
        return Err(Fault::NotImplemented("only WebSockets can be asked for"));
    }
    head.method = Method::GET;
    let mut key = [0; 16];
    // It keeps nothing secret; without randomness it is only a poor one.
    let _ = getrandom::fill(&mut key);
    let key = HeaderValue::try_from(STANDARD.encode(key))
        .map_err(|_| Fault::Malformed("there is no key for a WebSocket"))?;
    head.headers.insert(SEC_WEBSOCKET_KEY, key);
    websocket::mark_upgrade(&mut head.headers);
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn limits() -> Limits {
        Limits {
            header_count: 4,
            ..crate::proxy::tls_lab::limits()
        }
    }

    fn arranged(request: request::Builder) -> Result<request::Parts, Fault> {
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        arrange(&mut head, &limits()).map(|()| head)
    }

    #[test]
    fn crumbs_become_one_cookie_before_they_are_counted() {
        let mut request = Request::get("https://a.test/b?c");
        for number in 0..300 {
            request = request.header(COOKIE, format!("c{number}=v"));
        }
        let head = arranged(request).expect("a good request");
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies.len(), 1);
        let text = cookies[0].to_str().expect("text");
        assert!(text.starts_with("c0=v; c1=v; "), "{text}");
        assert!(text.ends_with("; c299=v"), "{text}");
        assert_eq!(head.headers[HOST], "a.test");
        assert_eq!(head.uri, "/b?c");
    }

    #[test]
    fn a_host_must_be_the_authority() {
        let ask = |host: &str| arranged(Request::get("https://a.test/").header(HOST, host));
        assert!(ask("A.test").is_ok());
        assert!(matches!(ask("b.test"), Err(Fault::Malformed(_))));
    }

    #[test]
    fn crumbs_are_capped_together() {
        let long = "x".repeat(gate::HEADER_MAX / 2);
        let request = Request::get("https://a.test/").header(COOKIE, &long);
        assert!(arranged(request).is_ok());
        let request = Request::get("https://a.test/")
            .header(COOKIE, &long)
            .header(COOKIE, &long);
        assert_eq!(arranged(request).err(), Some(Fault::HeadersTooLarge));
    }

    #[test]
    fn other_headers_are_counted() {
        let mut request = Request::get("https://a.test/");
        for number in 0..4 {
            request = request.header(format!("x-{number}"), "1");
        }
        assert_eq!(arranged(request).err(), Some(Fault::HeadersTooLarge));
    }

    #[test]
    fn all_headers_have_a_limit_together() {
        let of = |length: usize| {
            let request = Request::get("https://a.test/");
            let third = "x".repeat(length / 3);
            let request = request.header("a", &third).header("b", &third);
            arranged(request.header("c", &third)).err()
        };
        assert_eq!(of(limits().header_bytes - 100), None);
        assert_eq!(of(limits().header_bytes), Some(Fault::HeadersTooLarge));
    }

    #[test]
    fn extended_connect_is_a_handshake_for_websockets_only() {
        let ask = |protocol: &'static str| {
            let request = Request::connect("https://a.test/chat")
                .header("sec-websocket-version", "13")
                .extension(Protocol::from_static(protocol));
            arranged(request)
        };
        let head = ask("websocket").expect("a handshake");
        assert_eq!(head.method, Method::GET);
        assert!(websocket::check_request(&head).is_ok());
        assert!(matches!(ask("tcp"), Err(Fault::NotImplemented(_))));
    }
}
