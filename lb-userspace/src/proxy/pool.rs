//! Kept connections to targets, by what their groups speak.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower_service::Service;

use super::body::Parcel;
use super::h2c;
use super::wire::{self, Wire};
use crate::config::{Limits, TargetGroup, TargetProtocol};
use crate::tls;

/// Below the keep-alive of common servers (Node's 5 s is the shortest), so that
/// a kept connection is rarely closed just as it is used again.
const IDLE: Duration = Duration::from_secs(4);
/// A burst's connections are kept; more would only occupy the targets.
const PER_TARGET: usize = 256;

/// The connections to all targets.
#[derive(Debug)]
pub(crate) struct Pools {
    http: Client<HttpConnector, Parcel>,
    pub(super) h2c: h2c::Shared,
    /// By group: each has its own idea of whom to believe.
    https: HashMap<String, Client<TlsConnector, Parcel>>,
}

impl Pools {
    /// Pools with the limits of the configuration.
    pub(crate) fn new(limits: &Limits, groups: &[TargetGroup]) -> Self {
        let secured = |group: &TargetGroup| match &group.protocol {
            TargetProtocol::Https(tls) => {
                let connector = TlsConnector {
                    tcp: tcp(limits),
                    tls: tls.clone(),
                    limit: limits.connect_timeout,
                };
                Some((group.name.clone(), pool(limits, connector)))
            }
            TargetProtocol::Http | TargetProtocol::H2c => None,
        };
        Self {
            http: pool(limits, tcp(limits)),
            h2c: h2c::Shared::default(),
            https: groups.iter().filter_map(secured).collect(),
        }
    }

    /// Sends a request to a target of `group` over a kept connection, or a new one that
    /// is kept.
    pub(super) async fn request(
        &self,
        group: &str,
        request: Request<Parcel>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        match self.https.get(group) {
            Some(pool) => pool.request(request).await,
            None => self.http.request(request).await,
        }
    }
}

fn tcp(limits: &Limits) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(limits.connect_timeout));
    connector
}

fn pool<C>(limits: &Limits, connector: C) -> Client<C, Parcel>
where
    C: legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(PER_TARGET)
        .http1_preserve_header_case(true)
        .http1_max_headers(limits.header_count)
        .build(connector)
}

/// Connects, and shakes hands.
#[derive(Debug, Clone)]
struct TlsConnector {
    tcp: HttpConnector,
    tls: tls::Client,
    limit: Duration,
}

type Failed = Box<dyn Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<Secured, Failed>> + Send>>;

impl Service<Uri> for TlsConnector {
    type Response = Secured;
    type Error = Failed;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let (connect, tls, limit) = (self.tcp.call(uri), self.tls.clone(), self.limit);
        Box::pin(async move {
            let stream = connect.await?.into_inner();
            let stream = wire::secure(stream, &tls, limit).await?;
            Ok(Secured(TokioIo::new(stream)))
        })
    }
}

/// A connection that has been secured, as the library asks for it.
struct Secured(TokioIo<Wire>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
