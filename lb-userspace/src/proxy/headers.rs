//! Headers that belong to one hop, and those that tell the target of the client
//! (RFC 9110 section 7.6).

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::fault::Fault;
use super::proxy_header::Ends;
use crate::config::{ForwardedFor, Protocol};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");

/// Hop-by-hop whether `Connection` names them or not.
static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A client must not have these removed by naming them in `Connection`.
static NEVER_NOMINATED: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// What says where a message ends, whose it is or how it is to be read comes before it
/// (RFC 9110 section 6.5.1): who adds trailers to the headers would be misled.
static NEVER_TRAILERS: [HeaderName; 11] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TRAILER,
];

/// What is told to targets.
static TOLD: [HeaderName; 4] = [
    X_CLIENT_CERT_SUBJECT,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_PORT,
];

/// ALB refuses more.
const FORWARDED_MAX: usize = 30;

/// What targets are told of a client, written once for all its requests.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Where it is.
    client: HeaderValue,
    /// The port that it has come to.
    port: HeaderValue,
    /// Of its certificate, where targets are told.
    subject: Option<HeaderValue>,
}

impl Told {
    pub(super) fn new(ends: Ends, mode: ForwardedFor, subject: Option<HeaderValue>) -> Self {
        let address = ends.client.ip();
        let client = match mode {
            // Anew: an interface that the socket's address names is nothing to others.
            ForwardedFor::AppendWithPort => {
                SocketAddr::new(address, ends.client.port()).to_string()
            }
            ForwardedFor::Append | ForwardedFor::Preserve | ForwardedFor::Remove => {
                address.to_string()
            }
        };
        Self {
            // An address is text, and so a value.
            client: HeaderValue::try_from(client)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            port: HeaderValue::from(ends.local.port()),
            subject,
        }
    }
}

/// The fields that a message's `Connection` names: for this hop only, among its trailers
/// too (RFC 9110 section 7.6.1).
#[derive(Debug, Default)]
pub(super) struct Nominated(Vec<HeaderName>);

impl Nominated {
    fn by(headers: &HeaderMap) -> Self {
        Self(
            tokens(headers, &CONNECTION)
                // It goes anyway, and most targets name it.
                .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive"))
                .filter_map(|token| HeaderName::from_bytes(token).ok())
                .filter(|name| !NEVER_NOMINATED.contains(name))
                .collect(),
        )
    }

    /// Removes from an answer's trailers what its client must not get.
    pub(super) fn strip_trailers(&self, trailers: &mut HeaderMap) {
        strip_hop_by_hop(trailers);
        strip(trailers, |name| {
            self.0.contains(name) || NEVER_TRAILERS.contains(name)
        });
    }

    /// Removes from a request's trailers what its target must not get.
    pub(super) fn strip_request_trailers(&self, trailers: &mut HeaderMap) {
        self.strip_trailers(trailers);
        strip(trailers, |name| TOLD.contains(name) || is_look_alike(name));
    }
}

/// Removes what is meant for this hop only, and says what else is.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Nominated {
    strip_head(headers, |_| false)
}

/// Removes what a target must not get from a client.
pub(super) fn strip_request(headers: &mut HeaderMap) -> Nominated {
    strip_head(headers, |name| {
        // The balancer itself answers 100 Continue, as soon as the target takes the body.
        *name == EXPECT
            // Ours alone, also where it is not told.
            || *name == X_CLIENT_CERT_SUBJECT
            || is_look_alike(name)
    })
}

fn strip_head(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> Nominated {
    let nominated = Nominated::by(headers);
    strip(headers, |name| {
        nominated.0.contains(name) || HOP_BY_HOP.contains(name) || goes(name)
    });
    nominated
}

/// Removes the fields whose names are to go. Few messages have any: to look at each name
/// that is there costs less than to ask for each that should not be.
fn strip(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}

/// Whether a header's comma-separated values contain `token`, whatever its case.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The comma-separated values of a header, trimmed, empty ones left out.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Tells the target who the client is.
pub(super) fn forwarded(
    headers: &mut HeaderMap,
    mode: ForwardedFor,
    protocol: Protocol,
    told: &Told,
) -> Result<(), Fault> {
    let named: Vec<&[u8]> = tokens(headers, &X_FORWARDED_FOR).collect();
    if named.len() > FORWARDED_MAX {
        return Err(Fault::TooManyForwarded);
    }
    match mode {
        ForwardedFor::Append | ForwardedFor::AppendWithPort => {
            let all = followed(named, &told.client)?;
            headers.insert(X_FORWARDED_FOR, all);
        }
        ForwardedFor::Preserve => {}
        ForwardedFor::Remove => {
            headers.remove(X_FORWARDED_FOR);
        }
    }
    headers.insert(
        X_FORWARDED_PROTO,
        HeaderValue::from_static(protocol.as_str()),
    );
    headers.insert(X_FORWARDED_PORT, told.port.clone());
    if let Some(subject) = &told.subject {
        headers.insert(X_CLIENT_CERT_SUBJECT, subject.clone());
    }
    Ok(())
}

/// The addresses that a request names, and behind them the client's own.
fn followed<'a>(mut named: Vec<&'a [u8]>, client: &'a HeaderValue) -> Result<HeaderValue, Fault> {
    if named.is_empty() {
        return Ok(client.clone());
    }
    named.push(client.as_bytes());
    HeaderValue::from_bytes(&named.join(&b", "[..]))
        .map_err(|_| Fault::Malformed("X-Forwarded-For is malformed"))
}

/// What is told to targets, or tells where a request ends and whose it is.
static NOT_LOOKED_LIKE: [HeaderName; 7] = [
    X_CLIENT_CERT_SUBJECT,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_PORT,
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
];

/// Many applications read `X_Forwarded_For` as `X-Forwarded-For`; a client could
/// slip its own past us.
fn is_look_alike(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.contains('_') && {
        let dashed = name.replace('_', "-");
        NOT_LOOKED_LIKE.iter().any(|known| known.as_str() == dashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            headers.append(name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn nominated_and_hop_by_hop_headers_go() {
        let mut headers = headers(&[
            ("host", "a"),
            ("connection", "Upgrade, X-Internal-Auth"),
            ("connection", "host, keep-alive"),
            ("x-internal-auth", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("x-kept", "1"),
        ]);
        strip_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-kept"]);
    }

    #[test]
    fn trailers_say_nothing_of_the_hop_or_the_message() {
        let mut head = headers(&[("connection", "x-mine, close"), ("host", "a")]);
        let nominated = strip_request(&mut head);
        let all = [
            ("connection", "x-own"),
            ("x-own", "1"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("host", "b"),
            ("cookie", "LIMPET=stolen"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_client_cert_subject", "CN=mallory"),
            ("grpc-status", "0"),
        ];
        let left = |trailers: &HeaderMap| -> Vec<String> {
            trailers.keys().map(|name| name.to_string()).collect()
        };
        let mut request = headers(&all);
        nominated.strip_request_trailers(&mut request);
        assert_eq!(left(&request), ["grpc-status"]);
        let mut answer = headers(&all);
        Nominated::default().strip_trailers(&mut answer);
        let mut kept = left(&answer);
        kept.sort_unstable();
        assert_eq!(
            kept,
            [
                "grpc-status",
                "x-forwarded-for",
                "x-mine",
                "x_client_cert_subject"
            ]
        );
    }

    #[test]
    fn look_alikes_of_what_counts_are_removed() {
        let mut headers = headers(&[
            ("x_forwarded-for", "1.2.3.4"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("x-client-cert-subject", "CN=mallory"),
            ("x_client_cert-subject", "CN=mallory"),
            ("x_own", "kept"),
        ]);
        strip_request(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x_own"]);
    }

    fn forwarded_for(mode: ForwardedFor, before: &[(&str, &str)]) -> Option<String> {
        forwarded_for_of("198.51.100.7:999", mode, before)
    }

    fn forwarded_for_of(
        client: &str,
        mode: ForwardedFor,
        before: &[(&str, &str)],
    ) -> Option<String> {
        let mut headers = headers(before);
        let ends = Ends {
            client: client.parse().expect("an address"),
            local: "192.0.2.1:80".parse().expect("an address"),
        };
        strip_request(&mut headers);
        let told = Told::new(ends, mode, None);
        forwarded(&mut headers, mode, Protocol::Https, &told).ok()?;
        assert_eq!(headers.get("x-forwarded-port").expect("a port"), "80");
        assert_eq!(headers.get("x-forwarded-proto").expect("a word"), "https");
        let value = headers.get("x-forwarded-for")?;
        Some(value.to_str().expect("text").to_owned())
    }

    #[test]
    fn a_port_behind_the_address() {
        let mode = ForwardedFor::AppendWithPort;
        for (client, told) in [
            ("198.51.100.7:999", "198.51.100.7:999"),
            ("[2001:db8::1]:999", "[2001:db8::1]:999"),
            ("[fe80::1%3]:999", "[fe80::1]:999"),
        ] {
            assert_eq!(forwarded_for_of(client, mode, &[]).as_deref(), Some(told));
        }
        let forged = [("x-forwarded-for", "1.2.3.4")];
        assert_eq!(
            forwarded_for(mode, &forged).as_deref(),
            Some("1.2.3.4, 198.51.100.7:999")
        );
        let v6 = forwarded_for_of("[2001:db8::1]:999", ForwardedFor::Append, &[]);
        assert_eq!(v6.as_deref(), Some("2001:db8::1"));
    }

    #[test]
    fn a_forged_forwarded_for() {
        let forged = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "5.6.7.8"),
        ];
        let append = forwarded_for(ForwardedFor::Append, &forged);
        assert_eq!(append.as_deref(), Some("1.2.3.4, 198.51.100.7"));
        let preserve = forwarded_for(ForwardedFor::Preserve, &forged);
        assert_eq!(preserve.as_deref(), Some("1.2.3.4"));
        assert_eq!(forwarded_for(ForwardedFor::Remove, &forged), None);
    }
}
