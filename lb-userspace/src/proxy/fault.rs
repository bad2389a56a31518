//! The one place that makes HTTP of errors: each fault, its status code, its
//! label, and the text the client gets.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_VERSION};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::body::Reply;
use crate::config::ErrorPages;

/// Why the balancer answers in a target's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request is not what HTTP or RFC 6455 allow; says what is wrong.
    Malformed(&'static str),
    /// The client did not send its request or body in time.
    ClientSlow,
    /// The request line is over the limit.
    UriTooLong,
    /// A header, or all of them, are over the limit.
    HeadersTooLarge,
    /// A WebSocket version other than 13.
    WebSocketVersion,
    /// X-Forwarded-For names more proxies than there can be (ALB's 463).
    TooManyForwarded,
    /// A transfer coding or a method that is not implemented.
    NotImplemented(&'static str),
    /// No target is registered, or none has a weight.
    NoTarget,
    /// All that could have it have as much as they may, and there was no room in time.
    TargetsFull,
    /// The target refused the connection, reset it, or could not be reached.
    TargetUnreachable,
    /// The target speaks no TLS, or its certificate is not believed.
    TargetTls,
    /// The target's answer is malformed or was cut.
    TargetMalformed,
    /// The target switched protocols without being asked, or wrongly.
    TargetBadUpgrade,
    /// The connection to the target was not established in time.
    ConnectTimeout,
    /// The target did not begin its answer in time.
    ResponseTimeout,
}

impl Fault {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::ClientSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyForwarded => StatusCode::from_u16(463).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::NoTarget | Self::TargetsFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::TargetUnreachable
            | Self::TargetTls
            | Self::TargetMalformed
            | Self::TargetBadUpgrade => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The label of `rejected_total` and the word in the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::ClientSlow => "client_slow",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::WebSocketVersion => "websocket_version",
            Self::TooManyForwarded => "too_many_forwarded",
            Self::NotImplemented(_) => "not_implemented",
            Self::NoTarget => "no_target",
            Self::TargetsFull => "targets_full",
            Self::TargetUnreachable => "target_unreachable",
            Self::TargetTls => "target_tls",
            Self::TargetMalformed => "target_malformed",
            Self::TargetBadUpgrade => "target_bad_upgrade",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
        }
    }

    /// The request was at fault, not a target.
    pub(super) fn is_clients(self) -> bool {
        self.status().is_client_error() || matches!(self, Self::NotImplemented(_))
    }

    /// What the client is told; nothing of targets or addresses.
    fn text(self) -> &'static str {
        match self {
            Self::Malformed(what) | Self::NotImplemented(what) => what,
            Self::ClientSlow => "the request did not arrive in time",
            Self::UriTooLong => "the request line is too long",
            Self::HeadersTooLarge => "the headers are too large",
            Self::WebSocketVersion => "WebSocket version 13 is needed",
            Self::TooManyForwarded => "X-Forwarded-For holds too many addresses",
            Self::NoTarget => "no target is registered",
            Self::TargetsFull => "the targets have no room for more",
            Self::TargetUnreachable => "the target could not be reached",
            Self::TargetTls => "the target could not be trusted",
            Self::TargetMalformed | Self::TargetBadUpgrade => {
                "the target's answer was not understood"
            }
            Self::ConnectTimeout => "the target could not be reached in time",
            Self::ResponseTimeout => "the target did not answer in time",
        }
    }

    /// The answer. A request that was at fault ends its connection: what
    /// follows on it cannot be trusted to be where a request begins.
    pub(super) fn response(self, pages: &ErrorPages) -> Response<Reply> {
        let status = self.status();
        let (content_type, body) = self.page(pages);
        let mut response = Response::new(Reply::bytes(body));
        *response.status_mut() = status;
        if status.canonical_reason().is_none() {
            let phrase = ReasonPhrase::from_static(UNNAMED.as_bytes());
            response.extensions_mut().insert(phrase);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        if self.is_clients() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self == Self::WebSocketVersion {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }

    /// The answer as bytes, for a connection on which no request was read whole.
    pub(super) fn raw(self, pages: &ErrorPages) -> Vec<u8> {
        let status = self.status();
        let (code, phrase) = (status.as_u16(), reason_phrase(status));
        let (content_type, body) = self.page(pages);
        let head = format!(
            "HTTP/1.1 {code} {phrase}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: ",
            body.len()
        );
        [head.as_bytes(), content_type.as_bytes(), b"\r\n\r\n", &body].concat()
    }

    /// The configured page, or a sentence.
    fn page(self, pages: &ErrorPages) -> (HeaderValue, Bytes) {
        let status = self.status();
        if let Some(page) = pages.find(status) {
            return (page.content_type.clone(), page.body.clone());
        }
        let (code, phrase) = (status.as_u16(), reason_phrase(status));
        let text = format!("{code} {phrase}\n{}\n", self.text());
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        (plain, text.into())
    }
}

/// The phrase of a code that HTTP does not know: of 463, ALB's.
const UNNAMED: &str = "Refused";

fn reason_phrase(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or(UNNAMED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ERROR_CODES;

    #[test]
    fn every_code_can_have_a_page() {
        let all = [
            Fault::Malformed(""),
            Fault::ClientSlow,
            Fault::UriTooLong,
            Fault::HeadersTooLarge,
            Fault::WebSocketVersion,
            Fault::TooManyForwarded,
            Fault::NotImplemented(""),
            Fault::NoTarget,
            Fault::TargetUnreachable,
            Fault::TargetMalformed,
            Fault::TargetBadUpgrade,
            Fault::ConnectTimeout,
            Fault::ResponseTimeout,
        ];
        let mut codes = all.map(|fault| fault.status().as_u16()).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes, ERROR_CODES);
    }
}
