//! The scripted target: answers with its name, and does on a WebSocket what it
//! is told.
//!
//! | path | does |
//! |---|---|
//! | `/ws` | text `who`: its name; `close CODE WORD`; `fin`; `reset`; else echo |
//! | `/sum` | after the 101 reads to the end, then answers the digest, closes |
//! | `/fin` | after the 101 sends `bye` and half-closes, then reads to the end |
//! | `/raw?id=N` | checked byte streams in both directions, see [`crate::raw`] |
//! | `/refuse` | 403 |
//! | `/health` | 200, or what its [`Mood`] is |
//! | `/session` | begins a session: its id is the target's name and a number, in the cookie `JSESSIONID`, in `X-Session`, and as an Engine.IO handshake says it |
//! | `/head` | the request head as it arrived |
//! | `/large` | [`LARGE`] bytes |
//! | else | its name |

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use sha2::{Digest, Sha256};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;

use crate::head::{self, Head};
use crate::lab::{Lab, TARGETS};
use crate::namespace::Namespace;
use crate::raw::Streams;
use crate::web_socket;

/// More than what lies between a target and a client that does not read.
pub const LARGE: usize = 4 << 20;

/// How a connection ended, as a target saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A close frame, with its code.
    Closed(u16),
    /// The other side's FIN.
    Fin,
    /// Anything else, a reset mostly.
    Broken(String),
}

/// How a target answers health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// With 200.
    #[default]
    Well,
    /// With 503.
    Sick,
    /// Not at all.
    Silent,
}

/// What all targets of a lab share.
#[derive(Debug, Default)]
pub struct Notes {
    /// The checked streams.
    pub streams: Arc<Streams>,
    ends: Mutex<Vec<End>>,
    moods: Mutex<HashMap<usize, Mood>>,
    /// Sessions begun so far.
    sessions: AtomicU64,
    /// Health checks being answered, and the most at a time.
    asking: Mutex<(usize, usize)>,
}

impl Notes {
    /// The ends of WebSockets seen so far.
    pub fn ends(&self) -> Vec<End> {
        lock(&self.ends).clone()
    }

    /// From now on target `number` answers health checks like this.
    pub fn set_mood(&self, number: usize, mood: Mood) {
        lock(&self.moods).insert(number, mood);
    }

    /// The most health checks that were open at a time, of all targets together.
    pub fn most_checks_at_a_time(&self) -> usize {
        lock(&self.asking).1
    }

    fn ended(&self, end: End) {
        lock(&self.ends).push(end);
    }
}

/// Running targets; they stop when dropped.
#[derive(Debug)]
pub struct Targets {
    /// What they saw.
    pub notes: Arc<Notes>,
    /// The number of the target, and its listener.
    tasks: Vec<(usize, JoinHandle<()>)>,
}

impl Targets {
    /// Starts one in every target namespace, over IPv4 and IPv6.
    pub fn start(lab: &Lab) -> Result<Self> {
        let mut targets = Self {
            notes: Arc::default(),
            tasks: Vec::new(),
        };
        for number in 1..=TARGETS {
            targets.start_one(lab, number)?;
        }
        Ok(targets)
    }

    /// Starts one (again).
    pub fn start_one(&mut self, lab: &Lab, number: usize) -> Result<()> {
        let namespace = lab.targets.get(number - 1).context("no such target")?;
        for address in [lab.target(number), lab.target6(number)] {
            self.listen(namespace, address, number)?;
        }
        Ok(())
    }

    /// Stops one: connections are refused. Those that are open go on.
    pub async fn stop_one(&mut self, number: usize) {
        let (stopped, others) = std::mem::take(&mut self.tasks)
            .into_iter()
            .partition(|(of, _)| *of == number);
        self.tasks = others;
        let stopped: Vec<(usize, JoinHandle<()>)> = stopped;
        for (_, task) in stopped {
            task.abort();
            // It ends by being aborted.
            drop(task.await);
        }
    }

    /// One more, anywhere.
    pub fn listen(
        &mut self,
        namespace: &Namespace,
        address: SocketAddr,
        number: usize,
    ) -> Result<()> {
        let listener = namespace.listen(address)?;
        let (name, notes) = (format!("target-{number}").into(), Arc::clone(&self.notes));
        let name: Arc<str> = name;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection {
                    number,
                    name: Arc::clone(&name),
                    notes: Arc::clone(&notes),
                };
                // How it ended is in the notes; a broken request is the tests' doing.
                tokio::spawn(async move { drop(connection.serve(stream).await) });
            }
        });
        self.tasks.push((number, task));
        Ok(())
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Connection {
    number: usize,
    name: Arc<str>,
    notes: Arc<Notes>,
}

impl Connection {
    async fn serve(self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        // As often as its namespace has it: every two hours, unless a test says otherwise.
        SockRef::from(&stream).set_keepalive(true)?;
        let mut buffer = Vec::new();
        while let Some(head) = head::read(&mut stream, &mut buffer).await? {
            if head.path() == "/refuse" {
                answer(&mut stream, "403 Forbidden", "refused").await?;
            } else if head.path() == "/session" {
                self.begin_session(&mut stream).await?;
            } else if head.path() == "/health" {
                self.answer_check(&mut stream).await?;
            } else if head.has_token("connection", "upgrade") {
                return self.switch(stream, buffer, &head).await;
            } else if head.path() == "/large" {
                answer(&mut stream, "200 OK", &"x".repeat(LARGE)).await?;
            } else if head.path() == "/head" {
                let fields = head
                    .fields
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\n"));
                let text = format!("{}\n{}", head.first, fields.collect::<String>());
                answer(&mut stream, "200 OK", &text).await?;
            } else {
                answer(&mut stream, "200 OK", &self.name).await?;
            }
            if head.has_token("connection", "close") {
                break;
            }
        }
        Ok(())
    }

    async fn begin_session(&self, stream: &mut TcpStream) -> Result<()> {
        let number = self.notes.sessions.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}.{number}", self.name);
        let body = format!("0{{\"sid\":\"{id}\",\"upgrades\":[\"websocket\"]}}");
        let fields = format!("Set-Cookie: JSESSIONID={id}; Path=/\r\nX-Session: {id}\r\n");
        answer_with(stream, "200 OK", &fields, &body).await
    }

    async fn answer_check(&self, stream: &mut TcpStream) -> Result<()> {
        let mood = lock(&self.notes.moods).get(&self.number).copied();
        let _counted = Asking::new(&self.notes);
        match mood.unwrap_or_default() {
            Mood::Well => answer(stream, "200 OK", "well").await,
            Mood::Sick => answer(stream, "503 Service Unavailable", "sick").await,
            Mood::Silent => {
                // Until the other side gives up.
                let _ = stream.read_u8().await;
                Ok(())
            }
        }
    }

    async fn switch(self, mut stream: TcpStream, rest: Vec<u8>, head: &Head) -> Result<()> {
        let key = head.get("sec-websocket-key").context("no key")?;
        stream
            .write_all(web_socket::switching(key).as_bytes())
            .await?;
        let (path, query) = head.path().split_once('?').unwrap_or((head.path(), ""));
        match path {
            "/raw" => {
                let id = query.strip_prefix("id=").context("no id")?.parse()?;
                self.notes.streams.serve(id, stream, rest).await
            }
            "/sum" => sum(stream, rest).await,
            "/fin" => self.fin(stream).await,
            _ => self.talk(stream, rest).await,
        }
    }

    async fn talk(self, stream: TcpStream, rest: Vec<u8>) -> Result<()> {
        let mut socket =
            WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await;
        let end = loop {
            match socket.next().await {
                None => break End::Fin,
                Some(Err(error)) => break End::Broken(error.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    break End::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(message)) => self.obey(&mut socket, message).await?,
            }
        };
        self.notes.ended(end);
        // Lets the answer to a close frame out.
        while let Some(Ok(_)) = socket.next().await {}
        Ok(())
    }

    async fn obey(&self, socket: &mut WebSocketStream<TcpStream>, message: Message) -> Result<()> {
        let words = message.to_text().unwrap_or_default().to_owned();
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["who"] => socket.send(Message::text(&*self.name)).await?,
            ["close", code, reason] => {
                let code = code.parse::<u16>()?.into();
                let frame = CloseFrame {
                    code,
                    reason: (*reason).to_owned().into(),
                };
                socket.close(Some(frame)).await?;
            }
            ["fin"] => socket.get_mut().shutdown().await?,
            ["reset"] => {
                reset_on_drop(socket.get_ref())?;
                anyhow::bail!("told to reset");
            }
            _ => socket.send(message).await?,
        }
        Ok(())
    }

    async fn fin(self, mut stream: TcpStream) -> Result<()> {
        stream.write_all(b"bye").await?;
        stream.shutdown().await?;
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).await;
        self.notes
            .ended(end.map_or_else(|error| End::Broken(error.to_string()), |_| End::Fin));
        Ok(())
    }
}

/// A health check being answered.
struct Asking<'a>(&'a Notes);

impl<'a> Asking<'a> {
    fn new(notes: &'a Notes) -> Self {
        let mut asking = lock(&notes.asking);
        asking.0 += 1;
        asking.1 = asking.1.max(asking.0);
        Self(notes)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        lock(&self.0.asking).0 -= 1;
    }
}

/// Makes the drop of a connection send a reset.
pub fn reset_on_drop(stream: &TcpStream) -> Result<()> {
    Ok(SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO))?)
}

/// What `/sum` answers after these bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("{} {:x}", bytes.len(), Sha256::digest(bytes))
}

async fn sum(mut stream: TcpStream, mut bytes: Vec<u8>) -> Result<()> {
    stream.read_to_end(&mut bytes).await?;
    stream.write_all(digest(&bytes).as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> Result<()> {
    answer_with(stream, status, "", body).await
}

async fn answer_with(stream: &mut TcpStream, status: &str, fields: &str, body: &str) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Ok(stream.write_all(head.as_bytes()).await?)
}
