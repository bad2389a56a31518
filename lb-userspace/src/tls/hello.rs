//! The name that a client asks for (SNI), read from its ClientHello without
//! answering it: for connections whose TLS ends on the target.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Far above a ClientHello with post-quantum keys and tickets; four records at most.
const LENGTH_MAX: usize = 64 * 1024;
/// Read at once.
const PIECE: usize = 4 * 1024;

/// A ClientHello as it came.
#[derive(Debug)]
pub(crate) struct Hello {
    /// In lower case; `None` if the client did not say.
    pub(crate) name: Option<String>,
    /// All that has been read, for the target.
    pub(crate) bytes: Vec<u8>,
}

/// Reads until the ClientHello is whole.
///
/// # Errors
/// `InvalidData` for what is none; else the connection's.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    loop {
        let read = bytes.len();
        bytes.reserve(PIECE);
        if read >= LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = bytes.get(read..).unwrap_or_default();
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Ok(Hello { name, bytes });
                }
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ClientConnection;
    use rustls_pki_types::ServerName;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::tls::authority::Authority;

    fn hello(name: &'static str) -> Vec<u8> {
        let config = Arc::new(Authority::new().client(&["h2"]));
        let name = ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(config, name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("a hello");
        bytes
    }

    #[tokio::test]
    async fn the_name_however_it_is_cut() {
        let whole = hello("A.test");
        for at in [1, 5, 6, 100, whole.len()] {
            let (mut to, mut from) = tokio::io::duplex(64);
            let sent = whole.clone();
            let writer = tokio::spawn(async move {
                for piece in sent.chunks(at) {
                    to.write_all(piece).await.expect("written");
                }
                to
            });
            let hello = read(&mut from).await.expect("a hello");
            assert_eq!(hello.name.as_deref(), Some("a.test"));
            assert_eq!(hello.bytes, whole);
            writer.await.expect("the writer ends");
        }
    }

    #[tokio::test]
    async fn no_name_and_no_hello() {
        let hello = read(&mut &hello("192.0.2.1")[..]).await.expect("a hello");
        assert_eq!(hello.name, None);
        let cut = &self::hello("a.test")[..50];
        for bad in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16; 200], &[], cut] {
            assert!(read(&mut &*bad).await.is_err(), "{bad:?}");
        }
    }
}
