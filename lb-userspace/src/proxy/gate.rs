//! What every request must be before a target hears of it (RFC 9112).
//!
//! hyper has parsed the head; here is what it lets pass and a balancer must not.

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Uri, Version, request};

use super::fault::Fault;

/// ALB's limit on the request line.
pub(super) const URI_MAX: usize = 16 * 1024;
/// ALB's limit on one header.
pub(super) const HEADER_MAX: usize = 16 * 1024;

/// Refuses what is ambiguous or over a limit, and brings the target of the
/// request into origin form.
pub(super) fn check(head: &mut request::Parts) -> Result<(), Fault> {
    check_sizes(head)?;
    check_framing(&head.headers)?;
    if head.method == Method::CONNECT {
        return Err(Fault::NotImplemented("CONNECT is not implemented"));
    }
    check_host(head)?;
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        head.uri = origin_form(&head.uri)?;
    }
    Ok(())
}

fn check_sizes(head: &request::Parts) -> Result<(), Fault> {
    if head.uri.path().len() + head.uri.query().map_or(0, str::len) > URI_MAX {
        return Err(Fault::UriTooLong);
    }
    if head.headers.values().any(|value| value.len() > HEADER_MAX) {
        return Err(Fault::HeadersTooLarge);
    }
    Ok(())
}

/// One way only to tell where the body ends.
fn check_framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::Malformed(
            "both Content-Length and Transfer-Encoding",
        ));
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::NotImplemented(
            "this transfer coding is not implemented",
        ));
    }
    Ok(())
}

/// The same of a target's answer: its coding is for this hop and is taken away, so a length
/// beside it, or a coding that is not undone here, would be told to the client as the truth.
pub(super) fn check_answer(headers: &HeaderMap) -> Result<(), Fault> {
    check_framing(headers).map_err(|_| Fault::TargetMalformed)
}

fn check_host(head: &mut request::Parts) -> Result<(), Fault> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Fault::Malformed("more than one Host"));
    }
    match first {
        Some(host) => check_authority(host, &head.uri),
        None if head.version >= Version::HTTP_11 => Err(Fault::Malformed("no Host")),
        None => {
            // An absolute form of HTTP/1.0 says the host; else the target's
            // address stands in, which `forward` adds.
            if let Some(authority) = head.uri.authority() {
                let host = HeaderValue::from_str(authority.as_str())
                    .map_err(|_| Fault::Malformed("the request target is malformed"))?;
                head.headers.insert(HOST, host);
            }
            Ok(())
        }
    }
}

fn check_authority(host: &HeaderValue, uri: &Uri) -> Result<(), Fault> {
    let allowed = |byte: &u8| {
        matches!(
            byte,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b'!'
                | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
                | b'[' | b']'
        )
    };
    if !host.as_bytes().iter().all(allowed) {
        return Err(Fault::Malformed("Host is malformed"));
    }
    match uri.authority() {
        Some(authority)
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(Fault::Malformed("Host and the request target differ"))
        }
        _ => Ok(()),
    }
}

/// What targets get, and the log.
pub(super) fn origin_form(uri: &Uri) -> Result<Uri, Fault> {
    match uri.path_and_query() {
        Some(path) => {
            Uri::try_from(path.as_str()).map_err(|_| Fault::Malformed("the path is malformed"))
        }
        None => Ok(Uri::from_static("/")),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::HeaderName;

    use super::*;

    fn status(build: impl FnOnce(request::Builder) -> request::Builder) -> u16 {
        let request = build(Request::builder()).body(()).expect("a request");
        let (mut head, ()) = request.into_parts();
        check(&mut head).map_or_else(|fault| fault.status().as_u16(), |()| 200)
    }

    #[test]
    fn hosts() {
        assert_eq!(status(|r| r.uri("/").header(HOST, "a")), 200);
        assert_eq!(status(|r| r.uri("/").header(HOST, "")), 200);
        assert_eq!(status(|r| r.uri("/")), 400);
        assert_eq!(status(|r| r.uri("/").version(Version::HTTP_10)), 200);
        assert_eq!(
            status(|r| r.uri("/").header(HOST, "a").header(HOST, "a")),
            400
        );
        assert_eq!(status(|r| r.uri("/").header(HOST, "a b")), 400);
        assert_eq!(status(|r| r.uri("/").header(HOST, "a/b")), 400);
        assert_eq!(status(|r| r.uri("http://A/").header(HOST, "a")), 200);
        assert_eq!(status(|r| r.uri("http://b/").header(HOST, "a")), 400);
    }

    #[test]
    fn framing_and_limits() {
        let framed = |te: &'static str| {
            status(|r| r.uri("/").header(HOST, "a").header(TRANSFER_ENCODING, te))
        };
        assert_eq!(framed("chunked"), 200);
        assert_eq!(framed("gzip, chunked"), 501);
        let both = |r: request::Builder| {
            r.uri("/")
                .header(HOST, "a")
                .header(TRANSFER_ENCODING, "chunked")
                .header(CONTENT_LENGTH, 1)
        };
        assert_eq!(status(both), 400);
        let long = format!("/{}", "a".repeat(URI_MAX));
        assert_eq!(status(|r| r.uri(&long).header(HOST, "a")), 414);
        assert_eq!(
            status(|r| r.uri("/").header(HOST, "a").header("x", &long[1..])),
            200
        );
        assert_eq!(
            status(|r| r.uri("/").header(HOST, "a").header("x", &long[..])),
            431
        );
        assert_eq!(
            status(|r| r.method("CONNECT").uri("a:80").header(HOST, "a:80")),
            501
        );
    }

    #[test]
    fn answers_have_one_length() {
        let check = |headers: &[(HeaderName, &'static str)]| {
            let pairs = headers.iter().cloned();
            check_answer(
                &pairs
                    .map(|(n, v)| (n, HeaderValue::from_static(v)))
                    .collect(),
            )
        };
        assert!(check(&[]).is_ok());
        assert!(check(&[(CONTENT_LENGTH, "3")]).is_ok());
        assert!(check(&[(TRANSFER_ENCODING, "Chunked")]).is_ok());
        for wrong in [
            &[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "3")][..],
            &[(TRANSFER_ENCODING, "gzip, chunked")],
            &[(TRANSFER_ENCODING, "chunked, gzip")],
            &[(TRANSFER_ENCODING, "identity")],
        ] {
            assert_eq!(check(wrong), Err(Fault::TargetMalformed));
        }
    }

    #[test]
    fn origin_form_is_what_targets_get() {
        let request = Request::builder()
            .uri("http://a/b?c")
            .header(HOST, "a")
            .body(());
        let (mut head, ()) = request.expect("a request").into_parts();
        check(&mut head).expect("a good request");
        assert_eq!(head.uri.to_string(), "/b?c");
    }
}
