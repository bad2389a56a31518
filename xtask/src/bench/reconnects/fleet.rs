//! Clients that hold a WebSocket each, and come back at once when it ends, with the
//! cookie that they were given.

use std::cell::{Cell, Ref, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use lb_tests::client::{Client, PATIENCE, cookie_of};
use lb_tests::{head, web_socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Handshakes at a time.
const AT_ONCE: usize = 64;
/// After a handshake that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// One client of so many says something now and then: what it says to a dead host goes
/// unanswered, as it would from real clients.
const TALKER: usize = 100;
const PAUSE: Duration = Duration::from_secs(1);

/// The clients. All of them live in one task.
pub(super) struct Fleet<'lab> {
    client: Client<'lab>,
    clients: Vec<RefCell<Seen>>,
    handshakes: Semaphore,
    /// Handshakes that failed.
    failures: Cell<usize>,
}

/// What one client has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Whom it is connected to.
    pub(super) target: Option<u8>,
    /// When its connections have ended.
    pub(super) ends: Vec<Instant>,
    /// When it was connected, and to whom.
    pub(super) connects: Vec<(Instant, u8)>,
    cookie: Option<String>,
}

impl<'lab> Fleet<'lab> {
    pub(super) fn new(client: Client<'lab>, count: usize) -> Self {
        Self {
            client,
            clients: (0..count).map(|_| RefCell::default()).collect(),
            handshakes: Semaphore::new(AT_ONCE),
            failures: Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = Ref<'_, Seen>> {
        self.clients.iter().map(RefCell::borrow)
    }

    pub(super) fn connected(&self) -> usize {
        self.seen().filter(|seen| seen.target.is_some()).count()
    }

    pub(super) fn failures(&self) -> usize {
        self.failures.get()
    }

    /// Lives for ever.
    pub(super) async fn live(&self) {
        let clients = self.clients.iter().enumerate();
        let lives = clients.map(|(number, seen)| self.live_one(number, seen));
        join_all(lives).await;
    }

    async fn live_one(&self, number: usize, seen: &RefCell<Seen>) {
        loop {
            match self.connect(seen).await {
                Ok(stream) => {
                    hold(stream, number.is_multiple_of(TALKER)).await;
                    let mut seen = seen.borrow_mut();
                    seen.ends.push(Instant::now());
                    seen.target = None;
                }
                Err(_) => {
                    self.failures.set(self.failures.get() + 1);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn connect(&self, seen: &RefCell<Seen>) -> Result<TcpStream> {
        let _turn = self.handshakes.acquire().await?;
        let cookie = seen.borrow().cookie.clone();
        let (stream, target, cookie) = timeout(PATIENCE, self.shake_hands(cookie)).await??;
        let mut seen = seen.borrow_mut();
        seen.target = Some(target);
        seen.connects.push((Instant::now(), target));
        seen.cookie = cookie;
        Ok(stream)
    }

    /// The connection, whom it leads to, and the cookie from now on.
    async fn shake_hands(&self, cookie: Option<String>) -> Result<(TcpStream, u8, Option<String>)> {
        let mut stream = self.client.connect().await?;
        let key = web_socket::key(0);
        let request = web_socket::handshake("lab", "/ws", &key, cookie.as_deref());
        stream.write_all(request.as_bytes()).await?;
        let mut rest = Vec::new();
        let answer = head::read(&mut stream, &mut rest).await?;
        let answer = answer.context("closed without an answer")?;
        ensure!(answer.status()? == 101, "{answer:?}");
        let greeting = match rest.first() {
            Some(greeting) => *greeting,
            None => stream.read_u8().await?,
        };
        let cookie = cookie_of(answer.all("set-cookie")).or(cookie);
        Ok((stream, greeting, cookie))
    }
}

/// Until the connection ends.
async fn hold(mut stream: TcpStream, talks: bool) {
    let mut buffer = [0; 16];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            () = sleep(PAUSE), if talks => {
                if stream.write_all(b"?").await.is_err() {
                    return;
                }
            }
        }
    }
}
