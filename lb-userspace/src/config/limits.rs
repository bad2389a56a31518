//! `[limits]`: what a client or a target may take, in time and in bytes.

use std::time::Duration;

use super::defaults;
use super::reader::{Section, Size};

/// hyper refuses buffers below this; also the least a sensible request needs.
const HEADER_BYTES_MIN: u64 = 8 * 1024;
/// Above this, one connection could hold a megabyte before it is refused.
const HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Above this, parsing one head costs more than it should.
const HEADER_COUNT_MAX: u64 = 1000;

/// `[limits]`.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Of clients at a time; 0: what descriptors and memory allow.
    pub(crate) max_connections: u32,
    /// The same of each source; 0: no limit.
    pub(crate) max_connections_per_source: u32,
    /// TLS handshakes of each source at a time; 0: no limit.
    pub(crate) tls_handshakes_per_source: u32,
    /// For a client to finish a TLS handshake.
    pub(crate) tls_handshake_timeout: Duration,
    /// How long requests are taken on one HTTP connection.
    pub(crate) connection_lifetime: Duration,
    /// To open a connection to a target.
    pub(crate) connect_timeout: Duration,
    /// For a client to send a whole request head.
    pub(crate) header_timeout: Duration,
    /// All headers of a request together.
    pub(crate) header_bytes: usize,
    /// Fields of a request.
    pub(crate) header_count: usize,
    /// For a target to begin its answer.
    pub(crate) response_timeout: Duration,
}

pub(super) fn read(mut section: Section) -> Limits {
    let Size(bytes) = section.or("header_bytes", Size(defaults::HEADER_BYTES));
    let count: u32 = section.or("header_count", defaults::HEADER_COUNT);
    let limits = Limits {
        max_connections: section.or("max_connections", 0),
        max_connections_per_source: section.or("max_connections_per_source", 0),
        tls_handshakes_per_source: section.or(
            "tls_handshakes_per_source",
            defaults::TLS_HANDSHAKES_PER_SOURCE,
        ),
        tls_handshake_timeout: positive(
            &mut section,
            "tls_handshake_timeout",
            defaults::TLS_HANDSHAKE_TIMEOUT,
        ),
        connection_lifetime: positive(
            &mut section,
            "connection_lifetime",
            defaults::CONNECTION_LIFETIME,
        ),
        connect_timeout: positive(&mut section, "connect_timeout", defaults::CONNECT_TIMEOUT),
        header_timeout: positive(&mut section, "header_timeout", defaults::HEADER_TIMEOUT),
        header_bytes: within(
            &section,
            "header_bytes",
            bytes,
            HEADER_BYTES_MIN..=HEADER_BYTES_MAX,
        ),
        header_count: within(&section, "header_count", count.into(), 1..=HEADER_COUNT_MAX),
        response_timeout: positive(&mut section, "response_timeout", defaults::RESPONSE_TIMEOUT),
    };
    section.finish();
    limits
}

/// A duration that must not be zero: zero would refuse everything.
pub(super) fn positive(section: &mut Section, key: &str, default: Duration) -> Duration {
    let value = section.or(key, default);
    if value.is_zero() {
        section.problem(key, "must be more than zero");
    }
    value
}

fn within(section: &Section, key: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> usize {
    if !range.contains(&value) {
        let (least, most) = range.into_inner();
        section.problem(key, format!("must be between {least} and {most}"));
    }
    usize::try_from(value).unwrap_or(usize::MAX)
}
