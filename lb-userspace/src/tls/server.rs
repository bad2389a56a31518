//! The handshake, and what a listener offers in it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::Certificates;
use super::clients::Clients;

/// What a handshake chooses for HTTP/2 (RFC 9113 section 3.2).
pub(crate) const HTTP2: &str = "h2";
/// And for HTTP/1.1 (RFC 7301 section 6).
pub(crate) const HTTP1: &str = "http/1.1";

/// The TLS side of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    config: Arc<ArcSwap<ServerConfig>>,
    certificates: Arc<Certificates>,
    alpn: Vec<Vec<u8>>,
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
    /// `clients`: whether they must show certificates.
    ///
    /// # Errors
    /// There is no randomness for the keys.
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        alpn: &[&str],
        clients: Option<&Clients>,
    ) -> Result<Self, rustls::Error> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        let config = config(&certificates, &alpn, clients)?;
        Ok(Self {
            config: Arc::new(ArcSwap::from_pointee(config)),
            certificates,
            alpn,
        })
    }

    /// Judges clients by other authorities from the next handshake on. No session is
    /// resumed that the old ones have let in.
    pub(super) fn renew(&self, clients: Option<&Clients>) -> Result<(), rustls::Error> {
        let config = config(&self.certificates, &self.alpn, clients)?;
        self.config.store(Arc::new(config));
        Ok(())
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
        let handshake = TlsAcceptor::from(self.config.load_full()).accept(stream);
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

fn config(
    certificates: &Arc<Certificates>,
    alpn: &[Vec<u8>],
    clients: Option<&Clients>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()?),
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    config.alpn_protocols = alpn.to_vec();
    // What is strongest is for the operator to say, not for the weakest client.
    config.ignore_client_order = true;
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}
