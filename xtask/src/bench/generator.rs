//! The load generator: many connections, one message underway on each.
//!
//! Says `connected` when all handshakes are done, starts when told `go`, and
//! ends with one line of [`Numbers`].

use std::io::{Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lb_tests::web_socket;

use super::connection::{BUFFER, Connection};
use super::numbers::Numbers;
use super::poller::Poller;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to connect.
    #[arg(long)]
    address: SocketAddr,
    /// How many connections.
    #[arg(long)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long)]
    size: usize,
    /// How long to measure.
    #[arg(long)]
    seconds: f64,
}

struct Caller {
    connection: Connection,
    since: Instant,
    missing: usize,
}

/// Measures once.
pub(super) fn run(options: &Options) -> Result<()> {
    let mut poller = Poller::new()?;
    let mut callers = (0..options.connections)
        .map(|number| Caller::connect(options.address, number, &poller))
        .collect::<Result<Vec<_>>>()?;
    println!("connected");
    stdin().read_line(&mut String::new())?;
    let message = vec![b'm'; options.size];
    let mut buffer = vec![0; BUFFER];
    let start = Instant::now();
    for caller in &mut callers {
        caller.say(&message, &poller)?;
    }
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs_f64(options.seconds) {
        let ready = poller.wait(1_000)?;
        ensure!(!ready.is_empty(), "nothing came back for a second");
        for number in ready {
            let caller = callers.get_mut(number).context("a number of nobody")?;
            if let Some(time) = caller.turn(&message, &poller, &mut buffer)? {
                times.push(time);
            }
        }
    }
    println!("{}", Numbers::of(&mut times, start.elapsed()));
    Ok(())
}

impl Caller {
    fn connect(address: SocketAddr, number: usize, poller: &Poller) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let key = web_socket::key(number as u64);
        let head = web_socket::handshake(&address.to_string(), "/ws", &key, None);
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("the handshake")?;
            answer.extend_from_slice(&byte);
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 101 "),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
        let connection = Connection::new(stream, number, poller)?;
        Ok(Self {
            connection,
            since: Instant::now(),
            missing: 0,
        })
    }

    fn say(&mut self, message: &[u8], poller: &Poller) -> Result<()> {
        self.since = Instant::now();
        self.missing = message.len();
        self.connection.send(message, poller)
    }

    /// How long the message took, when it is back as a whole; the next one is
    /// sent at once.
    fn turn(
        &mut self,
        message: &[u8],
        poller: &Poller,
        buffer: &mut [u8],
    ) -> Result<Option<Duration>> {
        self.connection.flush(poller)?;
        let Some(bytes) = self.connection.receive(buffer)? else {
            return Ok(None);
        };
        ensure!(!bytes.is_empty(), "closed while measuring");
        self.missing = self
            .missing
            .checked_sub(bytes.len())
            .context("more than was sent")?;
        if self.missing > 0 {
            return Ok(None);
        }
        let took = self.since.elapsed();
        self.say(message, poller)?;
        Ok(Some(took))
    }
}
