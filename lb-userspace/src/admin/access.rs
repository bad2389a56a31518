//! Who may call: the bearer token, and the guard against DNS rebinding.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use subtle::ConstantTimeEq;

use super::answer::error;
use crate::config::Secret;

/// Whether the call carries the token; true when none is asked for.
pub(super) fn has_token(headers: &HeaderMap, token: Option<&Secret>) -> bool {
    let Some(token) = token else {
        return true;
    };
    bearer(headers).is_some_and(|given| given.ct_eq(token.bytes()).into())
}

/// 401.
pub(super) fn unauthorized() -> Response<Full<Bytes>> {
    let message = "a bearer token is needed";
    let mut response = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// A page of another site whose name was pointed at this host sends that name
/// in Host; an address or `localhost` it cannot make a browser send for itself.
pub(super) fn host_is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    host.to_str().is_ok_and(|host| {
        let name = without_port(host);
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    })
}

fn without_port(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        headers
    }

    #[test]
    fn only_names_of_this_host() {
        for host in [
            "127.0.0.1:9900",
            "localhost:9900",
            "[::1]:9900",
            "127.0.0.1",
        ] {
            assert!(host_is_local(&headers(HOST, host)), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9900",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!host_is_local(&headers(HOST, host)), "{host}");
        }
        assert!(!host_is_local(&HeaderMap::new()));
    }

    #[test]
    fn only_the_token() {
        let token = Secret::new(b"0123456789abcdef".to_vec()).expect("long enough");
        let with = |value| has_token(&headers(AUTHORIZATION, value), Some(&token));
        assert!(with("Bearer 0123456789abcdef"));
        assert!(!with("Bearer 0123456789abcdeg"));
        assert!(!with("Bearer 0123456789abcde"));
        assert!(!with("Basic 0123456789abcdef"));
        assert!(!has_token(&HeaderMap::new(), Some(&token)));
        assert!(has_token(&HeaderMap::new(), None));
    }
}
