//! What the access log knows of a request or connection.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::{Version, request};

/// More of what a client has chosen is cut: nobody reads it, and escaped it is up to six
/// times as long.
const LONGEST: usize = 2048;
/// What stands behind where it was cut.
const CUT: &str = "...";

/// One line to be.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) begun: SystemTime,
    /// `http`, `websocket`, `tcp` or `tls`.
    pub(crate) protocol: &'static str,
    pub(crate) listener: String,
    pub(crate) target_group: Option<String>,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) client: SocketAddr,
    /// `None` where no request was understood, and of what the kernel carried.
    pub(crate) head: Option<Head>,
    pub(crate) status: Option<u16>,
    /// `balancer` or `target`.
    pub(crate) origin: Option<&'static str>,
    /// Why the balancer answered in the target's place.
    pub(crate) fault: Option<&'static str>,
    /// What the claim to a session was found to be.
    pub(crate) verdict: Option<&'static str>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duration: Duration,
    /// `xdp`, `tc` or `userspace`.
    pub(crate) path: &'static str,
    /// How it ended.
    pub(crate) cause: &'static str,
}

/// What is logged of a request's head, copied, since the head's buffer is large, and cut.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// As the client sent it, mostly path and query.
    pub(crate) uri: String,
    pub(crate) version: &'static str,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) referer: Option<Vec<u8>>,
    pub(crate) user_agent: Option<Vec<u8>>,
}

/// What can be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Time,
    Protocol,
    Listener,
    TargetGroup,
    Target,
    Client,
    ClientIp,
    Method,
    Host,
    Uri,
    Version,
    Status,
    Origin,
    Fault,
    Verdict,
    BytesIn,
    BytesOut,
    DurationSeconds,
    Path,
    Cause,
    Referer,
    UserAgent,
}

/// The names in JSON lines and in templates, in the order of JSON lines.
pub(crate) const FIELDS: [(&str, Field); 22] = [
    ("time", Field::Time),
    ("protocol", Field::Protocol),
    ("listener", Field::Listener),
    ("target_group", Field::TargetGroup),
    ("target", Field::Target),
    ("client", Field::Client),
    ("client_ip", Field::ClientIp),
    ("method", Field::Method),
    ("host", Field::Host),
    ("uri", Field::Uri),
    ("version", Field::Version),
    ("status", Field::Status),
    ("origin", Field::Origin),
    ("fault", Field::Fault),
    ("verdict", Field::Verdict),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("duration_seconds", Field::DurationSeconds),
    ("path", Field::Path),
    ("cause", Field::Cause),
    ("referer", Field::Referer),
    ("user_agent", Field::UserAgent),
];

/// The value of a field.
pub(super) enum Value<'a> {
    Null,
    Number(u64),
    Seconds(f64),
    /// Anything, from a client too.
    Bytes(Cow<'a, [u8]>),
}

impl Head {
    pub(crate) fn of(head: &request::Parts) -> Self {
        let value = |name: HeaderName| head.headers.get(name).map(|value| cut(value.as_bytes()));
        Self {
            method: cut_text(head.method.as_str()),
            uri: cut_text(&head.uri.to_string()),
            version: version(head.version),
            host: value(HOST),
            referer: value(REFERER),
            user_agent: value(USER_AGENT),
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    match bytes.get(..LONGEST) {
        Some(start) if bytes.len() > LONGEST => [start, CUT.as_bytes()].concat(),
        _ => bytes.to_vec(),
    }
}

fn cut_text(text: &str) -> String {
    match text.split_at_checked(text.floor_char_boundary(LONGEST)) {
        Some((start, rest)) if !rest.is_empty() => [start, CUT].concat(),
        _ => text.to_owned(),
    }
}

impl Record {
    /// Of something that begins now; userspace until it is known better.
    pub(crate) fn new(protocol: &'static str, listener: &str, client: SocketAddr) -> Self {
        Self {
            begun: SystemTime::now(),
            protocol,
            listener: listener.to_owned(),
            target_group: None,
            target: None,
            client,
            head: None,
            status: None,
            origin: None,
            fault: None,
            verdict: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            path: "userspace",
            cause: "client_left",
        }
    }

    pub(super) fn value(&self, field: Field) -> Value<'_> {
        let head = self.head.as_ref();
        match field {
            Field::Time => Value::owned(super::format::rfc3339(self.begun)),
            Field::Protocol => Value::text(self.protocol),
            Field::Listener => Value::text(&self.listener),
            Field::TargetGroup => self.target_group.as_deref().into(),
            Field::Target => self.target.map_or(Value::Null, Value::owned),
            Field::Client => Value::owned(self.client),
            Field::ClientIp => Value::owned(self.client.ip()),
            Field::Method => head.map(|head| head.method.as_str()).into(),
            Field::Host => head.and_then(|head| head.host.as_deref()).into(),
            Field::Uri => head.map(|head| head.uri.as_str()).into(),
            Field::Version => head.map(|head| head.version).into(),
            Field::Status => self
                .status
                .map_or(Value::Null, |code| Value::Number(code.into())),
            Field::Origin => self.origin.into(),
            Field::Fault => self.fault.into(),
            Field::Verdict => self.verdict.into(),
            Field::BytesIn => Value::Number(self.bytes_in),
            Field::BytesOut => Value::Number(self.bytes_out),
            Field::DurationSeconds => Value::Seconds(self.duration.as_secs_f64()),
            Field::Path => Value::text(self.path),
            Field::Cause => Value::text(self.cause),
            Field::Referer => head.and_then(|head| head.referer.as_deref()).into(),
            Field::UserAgent => head.and_then(|head| head.user_agent.as_deref()).into(),
        }
    }
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes().into())
    }

    fn owned(value: impl ToString) -> Self {
        Self::Bytes(value.to_string().into_bytes().into())
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(Self::Null, |bytes| Self::Bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_a_client_has_chosen_is_cut_and_marked() {
        let head = |length: usize| {
            let value = vec![b'\t'; length];
            let request = Request::builder()
                .method("M".repeat(length).as_str())
                .uri(format!("/{}", "u".repeat(length - 1)))
                .header(HOST, value.as_slice())
                .header(REFERER, value.as_slice())
                .header(USER_AGENT, value.as_slice());
            let (head, ()) = request.body(()).expect("a request").into_parts();
            let head = Head::of(&head);
            [
                Some(head.method.into_bytes()),
                Some(head.uri.into_bytes()),
                head.host,
                head.referer,
                head.user_agent,
            ]
            .map(|field| field.expect("a value"))
        };
        for field in head(LONGEST) {
            assert_eq!(field.len(), LONGEST);
            assert!(!field.ends_with(b"..."));
        }
        for field in head(LONGEST + 1).into_iter().chain(head(16_000)) {
            assert_eq!(field.len(), LONGEST + 3);
            assert!(field.ends_with(b"..."));
        }
        assert_eq!(
            cut_text(&"\u{20ac}".repeat(1000)).len(),
            2046 + 3,
            "not in a character"
        );
    }
}
