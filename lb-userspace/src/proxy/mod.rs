//! The proxy: one HTTP request from listener to target and back, and the
//! tunnel that an upgraded one becomes.
//!
//! In travel order: `connection` (one client; `http2` if it speaks that), `gate` (what may pass), `rules` (what
//! is done), `session` (which target), `forward` or `upgrade`, `tunnel` or
//! `tls_tunnel`.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    expect(
        clippy::indexing_slicing,
        reason = "in a test a panic is a failure, as it should be"
    )
)]

mod attempts;
mod body;
mod books;
#[cfg(test)]
mod books_tests;
mod condition;
mod connection;
mod cookie;
mod dial;
mod fault;
mod forward;
mod framing;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gate;
mod h2c;
mod h2c_websocket;
mod handler;
mod headers;
mod http2;
mod last_seal;
mod leg;
mod pace;
mod pool;
pub(crate) mod proxy_header;
mod pump;
mod redirect;
mod route;
mod rules;
mod seal;
mod session;
mod split;
mod stickiness;
mod stream;
mod tls_pump;
mod tls_tunnel;
mod tunnel;
mod upgrade;
mod websocket;
mod wire;

#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod h2c_tests;
#[cfg(test)]
mod http1_tests;
#[cfg(test)]
mod https_target_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod reparse_tests;
#[cfg(test)]
mod tls_lab;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod unread_tests;

use std::sync::Arc;

use tokio::net::TcpStream;

pub(crate) use books::noted_verdict;
pub(crate) use connection::serve;
use pool::Counted;
pub(crate) use pool::Pools;
pub(crate) use rules::{Groups, Rules};

use crate::access::AccessLog;
use crate::config::{Limits, Listener};
use crate::connections::Connections;
use crate::dataplane::Dataplane;
use crate::door::Door;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::room::{Room, Sources, Streams};
use crate::tls;

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    /// For connections of all listeners.
    pub(crate) room: Arc<Room>,
    pub(crate) streams: Streams,
    pub(crate) sources: Arc<Sources>,
    pub(crate) handshakes: Arc<Sources>,
    pub(crate) dataplane: Dataplane,
    pub(crate) targets: Pools,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access: AccessLog,
    pub(crate) drain: Drain,
}

impl Shared {
    /// One more connection to a target is to be opened; it counts as long as what is
    /// returned is kept.
    fn make_way(&self) -> Counted {
        self.targets.http1.make_way(self.connections.count())
    }
}

/// One listener's proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) listener: Listener,
    /// Hash of the listener's name.
    pub(crate) id: u64,
    pub(crate) rules: Rules,
    /// `None`: clients speak HTTP in the clear.
    pub(crate) tls: Option<tls::Server>,
    /// Who may connect.
    pub(crate) door: Door,
    /// For this listener's connections.
    pub(crate) room: Arc<Room>,
    pub(crate) shared: Arc<Shared>,
}

impl Proxy {
    /// Closes a connection that may not come in, with a reset: it costs the peer no
    /// less than the balancer, and no TIME_WAIT. `reason` is the label of
    /// `rejected_total`.
    pub(crate) fn refuse(&self, stream: &TcpStream, reason: &str) {
        tunnel::reset_when_dropped(stream);
        self.shared.metrics.rejected(&self.listener.name, reason);
    }
}
