//! The echo server: a WebSocket handshake, a greeting if it has one, then every byte
//! back.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use lb_tests::web_socket;

use super::connection::{BUFFER, Connection};
use super::poller::Poller;

/// The listener's number; connections count from 0.
const LISTENER: usize = usize::MAX >> 1;

struct Peer {
    connection: Connection,
    /// What has come of the handshake; `None` once it is done.
    head: Option<Vec<u8>>,
}

/// Serves until killed.
pub(super) fn run(listen: SocketAddr, greeting: Option<u8>) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(&listener, LISTENER)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        for number in poller.wait(1_000)? {
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let connection = Connection::new(stream, peers.len(), &poller)?;
                    peers.push(Some(Peer {
                        connection,
                        head: Some(Vec::new()),
                    }));
                }
            } else if let Some(place) = peers.get_mut(number)
                && let Some(peer) = place
                && !matches!(peer.turn(greeting, &poller, &mut buffer), Ok(true))
            {
                *place = None;
            }
        }
    }
}

impl Peer {
    /// Answers whether the connection goes on.
    fn turn(&mut self, greeting: Option<u8>, poller: &Poller, buffer: &mut [u8]) -> Result<bool> {
        self.connection.flush(poller)?;
        let Some(bytes) = self.connection.receive(buffer)? else {
            return Ok(true);
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        match &mut self.head {
            None => self.connection.send(bytes, poller)?,
            Some(head) => {
                head.extend_from_slice(bytes);
                if head.ends_with(b"\r\n\r\n") {
                    let mut answer = answer(&String::from_utf8_lossy(head))?.into_bytes();
                    answer.extend(greeting);
                    self.connection.send(&answer, poller)?;
                    self.head = None;
                }
            }
        }
        Ok(true)
    }
}

fn answer(head: &str) -> Result<String> {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim())
    });
    Ok(web_socket::switching(key.context("no key")?))
}
