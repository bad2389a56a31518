//! Certificates of clients: whose are believed, and who has shown one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::pair::{Broken, Reload, Stamp, broken, stamp};

/// What a listener asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A certificate that can be verified; there is no connection without.
    Certificate,
    /// The same of those that have one; targets are told who they are.
    Subject,
}

/// Whose certificates are believed, by a PEM file.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) asked: Asked,
    file: PathBuf,
    seen: Option<Stamp>,
    roots: Arc<RootCertStore>,
}

impl Clients {
    /// Reads the authorities.
    pub(crate) fn load(asked: Asked, file: PathBuf) -> Result<Self, Broken> {
        // Before reading: a change in between shows as one at the next look.
        let seen = stamp(&file);
        let roots = read(&file).map_err(|message| broken("ca", &file, message))?;
        Ok(Self {
            asked,
            file,
            seen,
            roots: Arc::new(roots),
        })
    }

    /// Loads the file again if it has changed; one that cannot be used leaves this one
    /// as it is, and is not tried again before the next change.
    pub(super) fn reload(&mut self) -> Reload {
        let now = stamp(&self.file);
        if now == self.seen {
            return Reload::Unchanged;
        }
        self.seen = now;
        match Self::load(self.asked, self.file.clone()) {
            Ok(clients) => {
                *self = clients;
                Reload::New
            }
            Err(broken) => Reload::Broken(vec![broken]),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// What judges a client's certificate.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
        let verifier = match self.asked {
            Asked::Certificate => verifier,
            Asked::Subject => verifier.allow_unauthenticated(),
        };
        let built = verifier.build();
        built.map_err(|error| rustls::Error::General(error.to_string()))
    }
}

pub(super) fn read(file: &Path) -> Result<RootCertStore, String> {
    let bytes = fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let none = || "holds no certificates in PEM".to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|_| none())?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("holds what is not an authority's certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err(none());
    }
    Ok(roots)
}

/// The subject of a verified certificate as a header's value (RFC 4514); what is not
/// printable ASCII is escaped byte by byte, as that allows.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let name = certificate.tbs_certificate.subject.to_string();
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("\\{other:02x}")),
        }
    }
    HeaderValue::try_from(text).ok()
}
