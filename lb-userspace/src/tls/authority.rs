//! Certificates for tests, of an authority that only they trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;

use super::{Files, Pair};

/// An authority and the directory of what it has issued; both go when dropped.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    issued: AtomicU32,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Authority {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("limpet-tls-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a directory");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
            directory,
            issued: AtomicU32::new(0),
        }
    }

    /// Issues a pair for these names, in new files.
    pub(crate) fn files(&self, names: &[&str]) -> Files {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let file = |end: &str| self.directory.join(format!("{number}.{end}"));
        let files = Files {
            cert: file("pem"),
            key: file("key"),
        };
        self.issue(names, &files);
        files
    }

    /// Issues a pair for these names into `files`.
    pub(crate) fn issue(&self, names: &[&str], files: &Files) {
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let key = KeyPair::generate().expect("a key");
        let cert = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a certificate");
        write(&files.cert, &cert.pem());
        write(&files.key, &key.serialize_pem());
    }

    /// A pair for these names.
    pub(crate) fn pair(&self, names: &[&str]) -> Pair {
        Pair::load(self.files(names)).expect("a good pair")
    }

    /// Its own certificate in a file, for those who are to believe it.
    pub(crate) fn ca_file(&self) -> PathBuf {
        let file = self.directory.join("ca.pem");
        write(&file, &self.issuer.as_ref().pem());
        file
    }

    /// The same client with a certificate of `issuer` for this common name.
    pub(crate) fn client_named(
        &self,
        issuer: &Self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = DistinguishedName::new();
        let parts = [
            (DnType::OrganizationName, "Example, Inc."),
            (DnType::CommonName, name),
        ];
        for (kind, value) in parts {
            params.distinguished_name.push(kind, value);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .signed_by(&key, &issuer.issuer)
            .expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = self
            .trusting(versions)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("a client");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// What those believe who trust this authority.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = self.issuer.as_ref().der().clone();
        roots.add(root).expect("a root");
        roots
    }

    /// A client that trusts this authority and speaks what `alpn` says.
    pub(crate) fn client(&self, alpn: &[&str]) -> ClientConfig {
        self.client_of(alpn, rustls::ALL_VERSIONS)
    }

    /// The same, of these versions of TLS.
    pub(crate) fn client_of(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut config = self.trusting(versions).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl Authority {
    fn trusting(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// In place of what was there, all at once, as careful tools do.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, file).expect("in place");
}
