//! Exchanges that stand still: who is to blame in the access log, and what is kept of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::http1_tests::{GET, PATIENCE, asked, send};
use super::http2::lab::{self, Client};
use super::tls_lab::{Lab, head, limits, listener};
use crate::access::AccessLog;
use crate::config::{Config, Limits, Listener, Protocol, TargetGroup};
use crate::tls::authority::Authority;

/// After this a connection has stood still.
const STILL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// More than sockets hold.
const FLOOD: usize = 64 << 20;

/// A balancer whose access log is read.
pub(super) struct Logged {
    pub(super) lab: Lab,
    file: PathBuf,
}

impl Logged {
    pub(super) async fn new(protocol: Protocol) -> Self {
        let listener = Listener {
            protocol,
            ..listener(STILL)
        };
        Self::toward(listener, limits(), |_, _| {}).await
    }

    pub(super) async fn toward(
        listener: Listener,
        limits: Limits,
        change: impl FnOnce(&Authority, &mut TargetGroup),
    ) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("limpet-cut-{}-{number}.log", std::process::id());
        let file = std::env::temp_dir().join(name);
        let text = format!(
            "[log]\naccess = {{ to = {file:?} }}\n\
             [[listener]]\nname = 'a'\nbind = '127.0.0.1:0'\nredirect = {{}}\n"
        );
        let config = Config::parse(&text).expect("a good configuration");
        let lost = IntCounter::new("lost", "lines").expect("a counter");
        let access = AccessLog::start(&config.log.access, &lost).expect("an access log");
        let lab = Lab::logged(listener, limits, access, change).await;
        Self { lab, file }
    }

    async fn cause(&self) -> String {
        let line = self.line().await;
        line["cause"].as_str().expect("a cause").to_owned()
    }

    /// The first line.
    pub(super) async fn line(&self) -> serde_json::Value {
        let written = async {
            loop {
                let text = std::fs::read_to_string(&self.file).unwrap_or_default();
                if let Some((line, _)) = text.split_once('\n') {
                    return serde_json::from_str(line).expect("JSON");
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, written).await.expect("a line")
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Answers more than anybody takes, until it is told to stop.
async fn flood(target: &mut TcpStream) {
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    send(target, begin).await;
    let piece = vec![b'x'; 64 << 10];
    while target.write_all(&piece).await.is_ok() {}
}

#[tokio::test]
async fn who_does_not_read_is_to_blame() {
    let logged = Logged::new(Protocol::Http).await;
    let (_client, mut target, _) = asked(&logged.lab, GET).await;
    flood(&mut target).await;
    assert_eq!(logged.cause().await, "client_slow");
}

#[tokio::test]
async fn who_does_not_read_a_stream_is_to_blame() {
    let logged = Logged::new(Protocol::Https).await;
    let mut client = Client::new(&logged.lab).await;
    let _answer = client.get(lab::get("/")).await;
    let (mut target, _) = logged.lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    flood(&mut target).await;
    assert_eq!(logged.cause().await, "client_slow");
}

#[tokio::test]
async fn a_target_that_stands_still_is_not_its_clients_fault() {
    let logged = Logged::new(Protocol::Http).await;
    let (_client, mut target, _) = asked(&logged.lab, GET).await;
    send(
        &mut target,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    )
    .await;
    assert_eq!(logged.cause().await, "idle");
}

/// The state in which the balancer's socket is, as /proc/net/tcp has it.
fn state(balancer: u16, client: u16) -> Option<String> {
    let ends = format!(" 0100007F:{balancer:04X} 0100007F:{client:04X} ");
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").expect("sockets");
    let line = sockets.lines().find(|line| line.contains(&ends))?;
    line.split(&ends).nth(1)?.get(..2).map(str::to_owned)
}

/// Until it is gone, its buffer is.
#[tokio::test]
async fn an_answer_in_the_kernel_does_not_wait_for_ever() {
    const ESTABLISHED: &str = "01";
    const ANSWER: usize = 256 << 10;
    let logged = Logged::new(Protocol::Http).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    let connected = socket.connect(logged.lab.balancer).await;
    let mut client = connected.expect("connected");
    send(&mut client, GET).await;
    let (mut target, _) = logged.lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n");
    send(&mut target, begin).await;
    send(&mut target, vec![b'x'; ANSWER]).await;
    // The kernel has all of it.
    assert_eq!(logged.cause().await, "done");
    let ports = (
        logged.lab.balancer.port(),
        client.local_addr().expect("an address").port(),
    );
    let socket = || state(ports.0, ports.1);
    assert_eq!(socket().as_deref(), Some(ESTABLISHED));
    let gone = async {
        while socket().is_some() {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("an end");
}
