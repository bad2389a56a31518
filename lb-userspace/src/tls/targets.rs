//! TLS toward targets: whom to believe, and the handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HTTP1, clients};

/// Whose certificates are believed.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Those that these authorities have issued, for the name asked for.
    Authorities(RootCertStore),
    /// Anybody's: encrypted, and to whom is not known.
    Anybody,
}

impl Trust {
    /// Trusts the authorities in a PEM file; the error is a sentence.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let roots = clients::read(file);
        roots
            .map(Self::Authorities)
            .map_err(|message| format!("{} {message}", file.display()))
    }
}

/// The TLS side of connections to a group's targets.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    /// What targets are asked for (SNI) and must prove to be; `None`: their address,
    /// which is not asked for.
    name: Option<ServerName<'static>>,
}

impl Client {
    /// TLS 1.2 and 1.3, HTTP/1.1 inside.
    ///
    /// # Errors
    /// The authorities cannot be used; a sentence.
    pub(crate) fn new(trust: Trust, name: Option<ServerName<'static>>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let sentence = |error: &dyn std::fmt::Display| format!("cannot be used: {error}");
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Authorities(roots) => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| sentence(&error))?
            }
            Trust::Anybody => Arc::new(Anybody(provider.clone())),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| sentence(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP1.as_bytes().to_vec()];
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// Shakes hands with a target.
    ///
    /// # Errors
    /// `InvalidData`: it speaks no TLS, or is not who it should be.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::from(stream.peer_addr()?.ip()),
        };
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(name, stream).await
    }
}

/// Believes every certificate, but only from who has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
