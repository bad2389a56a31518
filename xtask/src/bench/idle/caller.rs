//! Opens WebSockets over TLS, as many more as each line of its input says, answers each
//! line with one, and keeps them all.

use std::fs;
use std::io::{Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lb_tests::web_socket;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whom to connect to.
    #[arg(long)]
    address: SocketAddr,
    /// The certificate that is trusted.
    #[arg(long)]
    ca: PathBuf,
}

/// Opens until the input ends.
pub(in crate::bench) fn run(options: &Options) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(&options.ca)?)?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let mut open = Vec::new();
    for line in stdin().lines() {
        for _ in 0..line?.parse()? {
            let number = open.len() as u64;
            let one = connect(&config, options.address, number);
            open.push(one.with_context(|| format!("connection {number}"))?);
        }
        println!("open: {}", open.len());
    }
    Ok(())
}

fn connect(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    number: u64,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let session = ClientConnection::new(config.clone(), ServerName::from(address.ip()))?;
    let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
    let key = web_socket::key(number);
    let head = web_socket::handshake(&address.to_string(), "/ws", &key, None);
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend_from_slice(&byte);
    }
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 101 "), "{answer:?}");
    Ok(stream)
}
