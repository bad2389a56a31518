//! The header of the PROXY protocol, versions 1 and 2: who a client is, said by a
//! balancer before us; and the same, said to targets.
//!
//! Never guessed: a listener that expects it takes no connection without.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::ProxyProtocol;

/// The shortest header of both versions (specification sections 2.1 and 2.2).
const SHORTEST: usize = 15;
/// The longest line of version 1, its end counted (section 2.1).
const LINE_MAX: usize = 107;
/// Version 2: signature, version, family, length (section 2.2).
const FIXED: usize = 16;
/// Addresses of version 2 and what may be told besides; far above what is in use.
const EXTRA_MAX: usize = 4096;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    /// What the client connected to.
    pub(super) local: SocketAddr,
}

/// Reads the header, and no byte more. `None`: whoever connected speaks for itself.
///
/// # Errors
/// `InvalidData` for what is no header; else the connection's.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<Ends>> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        read_to(stream, &mut header, FIXED).await?;
        let length = match header.last_chunk() {
            Some(length) => usize::from(u16::from_be_bytes(*length)),
            None => 0,
        };
        if length > EXTRA_MAX {
            return Err(malformed());
        }
        read_to(stream, &mut header, FIXED + length).await?;
    } else if header.starts_with(b"PROXY ") {
        read_line(stream, &mut header).await?;
    } else {
        return Err(malformed());
    }
    parse(&header)
}

async fn read_to(stream: &mut TcpStream, header: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let read = header.len();
    header.resize(length, 0);
    let rest = header.get_mut(read..).unwrap_or_default();
    stream.read_exact(rest).await.map(|_| ())
}

/// Looks ahead for the end of the line, so that nothing behind it is taken.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut ahead = [0; LINE_MAX];
    while !header.ends_with(b"\n") {
        if header.len() >= LINE_MAX {
            return Err(malformed());
        }
        let room = LINE_MAX - header.len();
        let count = stream
            .peek(ahead.get_mut(..room).unwrap_or_default())
            .await?;
        let seen = ahead.get(..count).unwrap_or_default();
        if seen.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = seen.iter().position(|byte| *byte == b'\n');
        let length = header.len() + end.map_or(count, |end| end + 1);
        read_to(stream, header, length).await?;
    }
    match header.ends_with(b"\r\n") {
        true => Ok(()),
        false => Err(malformed()),
    }
}

fn parse(header: &[u8]) -> io::Result<Option<Ends>> {
    let ends = |client: (IpAddr, u16), local: (IpAddr, u16)| {
        Some(Ends {
            client: client.into(),
            local: local.into(),
        })
    };
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => ends(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            v1::Addresses::Tcp6(ip) => ends(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => ends(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => ends(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_))
            | (v2::Command::Local, _) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(malformed()),
    }
}

/// What a target is told first; empty where that is nothing.
pub(crate) fn write(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    match version {
        ProxyProtocol::Off => Vec::new(),
        // Addresses of different families are "unknown" to both versions.
        ProxyProtocol::V1 => v1::Addresses::from((client, local))
            .to_string()
            .into_bytes(),
        ProxyProtocol::V2 => v2::Builder::with_addresses(
            v2::Version::Two | v2::Command::Proxy,
            v2::Protocol::Stream,
            (client, local),
        )
        .build()
        // Fails for what is told besides the addresses, which is nothing.
        .unwrap_or_default(),
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn ends(client: &str, local: &str) -> Ends {
        Ends {
            client: client.parse().expect("an address"),
            local: local.parse().expect("an address"),
        }
    }

    /// What is read of these pieces, and what is left.
    async fn of(pieces: &[&[u8]]) -> (io::Result<Option<Ends>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.set_nodelay(true).expect("an option");
        let (mut server, _) = listener.accept().await.expect("accepted");
        let writing = async {
            for piece in pieces {
                client.write_all(piece).await.expect("written");
                tokio::task::yield_now().await;
            }
            client.shutdown().await.expect("shut down");
        };
        let reading = async {
            let result = read(&mut server).await;
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.expect("the rest");
            (result, rest)
        };
        tokio::join!(writing, reading).1
    }

    #[tokio::test]
    async fn both_versions_and_no_byte_more() {
        let v4 = ends("203.0.113.7:51334", "192.0.2.1:443");
        let v6 = ends("[2001:db8::7]:1", "[2001:db8::1]:65535");
        for known in [v4, v6] {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let header = write(version, known.client, known.local);
                for at in 0..header.len() {
                    let (first, second) = header.split_at(at);
                    let (result, rest) = of(&[first, second, b"GET /\n"]).await;
                    assert_eq!(
                        result.expect("a header"),
                        Some(known),
                        "{version:?} at {at}"
                    );
                    assert_eq!(rest, b"GET /\n");
                }
            }
        }
    }

    #[tokio::test]
    async fn who_speaks_for_itself() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
        let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8"[..], &[0; 216]].concat();
        let unknown = &b"PROXY UNKNOWN\r\n"[..];
        for header in [&local[..], &unix, unknown, b"PROXY UNKNOWN ff:: a 1 2\r\n"] {
            let (result, rest) = of(&[header, b"x"]).await;
            assert_eq!(result.expect("a header"), None, "{header:?}");
            assert_eq!(rest, b"x");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'a'; 200], b"\r\n"].concat();
        let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        for header in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\nGET / HTTP/1.1\r\n",
            b"PROXY UNKNOWN \n",
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x01\x00",
            b"PROXY",
            b"",
            &long,
            huge,
        ] {
            let (result, _) = of(&[header]).await;
            assert!(result.is_err(), "{header:?}: {result:?}");
        }
    }
}
