//! Whatever a trusted source sends first, it is a header of the PROXY protocol or is
//! refused; not a byte behind a header is taken; and what it says can be said again.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::config::ProxyProtocol;
use crate::proxy::proxy_header::{self, Ends};
use crate::proxy::tunnel::reset_when_dropped;

/// More than the longest header, and what a socket takes at once.
const MOST: usize = 8 * 1024;

/// The input is what comes on a connection before its end.
pub fn check(input: &[u8]) {
    let input = input.get(..MOST).unwrap_or(input);
    let Lane { runtime, listener } = &Lane::new();
    runtime.block_on(async {
        let (said, rest) = read(listener, input).await;
        let Ok(said) = said else {
            return;
        };
        let header = input.strip_suffix(&rest[..]);
        let header = header.expect("what is left is what came last");
        assert!(is_whole(header), "a header and no more: {header:?}");
        let Some(ends) = said else {
            return;
        };
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let again = proxy_header::write(version, ends.client, ends.local);
            let (said, rest) = read(listener, &again).await;
            assert_eq!(said.expect("a header of ours"), Some(ends), "{version:?}");
            assert!(rest.is_empty(), "{rest:?}");
        }
    });
}

/// By the lengths that the specification gives (sections 2.1 and 2.2).
fn is_whole(header: &[u8]) -> bool {
    match header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some([_, _, high, low, rest @ ..]) => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        Some(_) => false,
        None => {
            let line = header.strip_suffix(b"\r\n").unwrap_or_default();
            line.starts_with(b"PROXY ") && !line.contains(&b'\n') && header.len() <= 107
        }
    }
}

/// A connection's way to the reader.
struct Lane {
    runtime: Runtime,
    listener: TcpListener,
}

impl Lane {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("a runtime");
        let bound = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        Self {
            listener: bound.expect("a listener"),
            runtime,
        }
    }
}

/// What is read, and what is left behind it.
async fn read(listener: &TcpListener, input: &[u8]) -> (io::Result<Option<Ends>>, Vec<u8>) {
    let address = listener.local_addr().expect("an address");
    let mut client = TcpStream::connect(address).await.expect("connected");
    let (mut server, _) = listener.accept().await.expect("accepted");
    client.write_all(input).await.expect("written");
    client.shutdown().await.expect("ended");
    let said = proxy_header::read(&mut server).await;
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.expect("the rest");
    // No TIME_WAIT for each input.
    reset_when_dropped(&client);
    reset_when_dropped(&server);
    (said, rest)
}
