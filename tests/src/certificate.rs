//! A certificate for the balancer of a lab, made by openssl.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::lab::Lab;
use crate::shell;

/// A self-signed certificate for the front's address, and its key, in PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one, in the directory of the lab.
    pub fn new(lab: &Lab) -> Result<Self> {
        let directory = lab.run().directory();
        let [certificate, key] = ["site.crt", "site.key"].map(|name| directory.join(name));
        shell::output(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
                .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
                .args(["-subj", "/CN=limpet lab"])
                // Its own issuer, but no authority: rustls takes none for a server.
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .args([
                    "-addext",
                    &format!("subjectAltName=IP:{}", lab.front().ip()),
                ])
                .arg("-out")
                .arg(&certificate)
                .arg("-keyout")
                .arg(&key),
        )?;
        Ok(Self { certificate, key })
    }

    /// A listener of https at `bind`, in front of the targets of the lab.
    pub fn table(&self, name: &str, bind: SocketAddr) -> String {
        format!(
            "[[listener]]\nname = {name:?}\nbind = \"{bind}\"\ntarget_group = \"chat\"\n{}",
            self.listener()
        )
    }

    /// The lines that make a listener one of https with it.
    pub fn listener(&self) -> String {
        format!(
            "protocol = \"https\"\ncertificates = [{{ cert = {:?}, key = {:?} }}]\n",
            self.certificate, self.key
        )
    }
}
