//! A certificate with its private key, as two PEM files hold them.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Where a pair is kept.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The chain, the server's own certificate first.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate chain and the key that belongs to it.
#[derive(Clone)]
pub(crate) struct Pair {
    files: Files,
    seen: Stamps,
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
}

/// What is wrong with a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// `cert`, `key` or `ca`, as in the configuration.
    pub(crate) key: &'static str,
    /// A sentence that begins with the file; nothing of its content.
    pub(crate) message: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl Pair {
    /// Reads both files and makes sure that they belong together.
    pub(crate) fn load(files: Files) -> Result<Self, Vec<Broken>> {
        // Before reading: a change in between shows as one at the next look.
        let seen = files.stamps();
        let cert = |message| vec![broken("cert", &files.cert, message)];
        let key = |message| vec![broken("key", &files.key, message)];
        let (chain, private) = match (read_chain(&files.cert), read_key(&files.key)) {
            (Ok(chain), Ok(private)) => (chain, private),
            (Err(one), Err(other)) => return Err([cert(one), key(other)].concat()),
            (Err(message), Ok(_)) => return Err(cert(message)),
            (Ok(_), Err(message)) => return Err(key(message)),
        };
        let names = names(&chain).map_err(cert)?;
        let certified = CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| key(key_error(&error)))?;
        Ok(Self {
            files,
            seen,
            certified: Arc::new(certified),
            names,
        })
    }

    /// Loads the files again if they have changed. A pair that cannot be used
    /// leaves this one as it is, and is not tried again before the next change.
    pub(super) fn reload(&mut self) -> Reload {
        let now = self.files.stamps();
        if now == self.seen {
            return Reload::Unchanged;
        }
        self.seen = now;
        match Self::load(self.files.clone()) {
            Ok(pair) => {
                *self = pair;
                Reload::New
            }
            Err(broken) => Reload::Broken(broken),
        }
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// When its first certificate ends, in seconds since 1970.
    pub(super) fn not_after(&self) -> Option<u64> {
        let certificate = Certificate::from_der(self.certified.cert.first()?).ok()?;
        let end = certificate.tbs_certificate.validity.not_after;
        Some(end.to_unix_duration().as_secs())
    }

    /// The host names that the certificate is for, in lower case; one that begins
    /// with `*.` stands for any first label.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("files", &self.files)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What another look at the files has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reload {
    Unchanged,
    New,
    Broken(Vec<Broken>),
}

/// What changes whenever a file does: device, inode, change time, length.
pub(super) type Stamp = (u64, u64, i64, i64, u64);
/// Of both files; `None` for one that cannot be looked at.
type Stamps = [Option<Stamp>; 2];

impl Files {
    fn stamps(&self) -> Stamps {
        [&self.cert, &self.key].map(|file| stamp(file))
    }
}

/// How a file looks now; `None` if it cannot be looked at.
pub(super) fn stamp(file: &Path) -> Option<Stamp> {
    let data = fs::metadata(file).ok()?;
    let changed = (data.ctime(), data.ctime_nsec());
    Some((data.dev(), data.ino(), changed.0, changed.1, data.len()))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("holds no certificates in PEM".to_owned()),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    // The error is left out: it may quote the file.
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| "holds no private key in PEM (an encrypted one cannot be read)".to_owned())
}

fn names(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, String> {
    let first = chain.first().ok_or("holds no certificates in PEM")?;
    let cert = EndEntityCert::try_from(first)
        .map_err(|error| format!("is not a certificate for a server: {error}"))?;
    Ok(cert
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect())
}

fn key_error(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "does not belong to the certificate".to_owned()
        }
        _ => "holds no key that can be used: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, \
              Ed25519"
            .to_owned(),
    }
}

pub(super) fn broken(key: &'static str, file: &Path, message: String) -> Broken {
    Broken {
        key,
        message: format!("{} {message}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::authority::Authority;

    /// The keys and the sentences of what is wrong, without the files' names.
    fn complaints(files: Files) -> Vec<(&'static str, String)> {
        let all = Pair::load(files).expect_err("a broken pair");
        all.into_iter()
            .map(|broken| {
                let (_, sentence) = broken.message.split_once(' ').expect("a file first");
                (broken.key, sentence.to_owned())
            })
            .collect()
    }

    #[test]
    fn what_is_wrong_is_said_of_the_right_file() {
        let authority = Authority::new();
        let good = authority.files(&["a.test"]);
        let with_cert = |cert: &Path| Files {
            cert: cert.to_owned(),
            key: good.key.clone(),
        };
        assert!(Pair::load(good.clone()).is_ok());
        let missing = complaints(Files {
            cert: "/nonexistent/cert".into(),
            key: "/nonexistent/key".into(),
        });
        assert_eq!(missing.len(), 2);
        assert!(missing[0].1.contains("No such file"), "{missing:?}");
        assert_eq!((missing[0].0, missing[1].0), ("cert", "key"));
        let swapped = complaints(Files {
            cert: good.key.clone(),
            key: good.cert.clone(),
        });
        assert!(swapped[0].1.starts_with("holds no certificates"));
        assert!(swapped[1].1.starts_with("holds no private key"));
        let other = authority.files(&["a.test"]);
        assert_eq!(
            complaints(with_cert(&other.cert)),
            [("key", "does not belong to the certificate".to_owned())]
        );
    }

    #[test]
    fn nothing_of_a_file_is_ever_quoted() {
        const SECRET: &str = "c2VjcmV0";
        let authority = Authority::new();
        let files = authority.files(&["a.test"]);
        for kind in ["CERTIFICATE", "PRIVATE KEY"] {
            let text = format!("-----BEGIN {kind}-----\n{SECRET}\n-----END {kind}-----\n");
            for text in [
                text.as_str(),
                &text[..40],
                &text.replace("c2", "\u{1}\u{2}"),
            ] {
                std::fs::write(&files.cert, text).expect("written");
                std::fs::write(&files.key, text).expect("written");
                let found = complaints(files.clone());
                assert!(!format!("{found:?}").contains(&SECRET[3..]), "{found:?}");
            }
        }
    }
}
