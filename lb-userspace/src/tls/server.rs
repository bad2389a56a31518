//! The handshake, and what a listener offers in it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::Certificates;

/// What a handshake chooses for HTTP/2 (RFC 9113 section 3.2).
pub(crate) const HTTP2: &str = "h2";
/// And for HTTP/1.1 (RFC 7301 section 6).
pub(crate) const HTTP1: &str = "http/1.1";

/// The TLS side of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    config: Arc<ServerConfig>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The client did not finish in time.
    Slow,
    /// The client left.
    Gone,
    /// The client and we do not understand each other. It has been told, but may
    /// not have read it yet.
    Refused(io::Error, TcpStream),
}

impl Server {
    /// TLS 1.2 and 1.3; sessions are resumed by tickets whose keys change. A client
    /// that insists on other protocols than `alpn` is refused, unless that is empty.
    ///
    /// # Errors
    /// There is no randomness for the keys.
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        alpn: &[&str],
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// The client's, all of them.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<Box<TlsStream<TcpStream>>, Failed> {
        let handshake = TlsAcceptor::from(self.config.clone()).accept(stream);
        match tokio::time::timeout(limit, handshake.into_fallible()).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err((error, stream))) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Failed::Refused(error, stream))
            }
            Ok(Err(_)) => Err(Failed::Gone),
            Err(_) => Err(Failed::Slow),
        }
    }
}
