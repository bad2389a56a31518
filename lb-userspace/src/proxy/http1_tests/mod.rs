//! HTTP/1.1 by hand, on both sides: what must arrive, what must not, and when.

mod bodies;
mod error_pages;
mod heads;
mod identity;
mod slowness;
mod timeouts;
mod trailers;
mod upgrades;

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls_lab::{Lab, head};
use crate::config::Protocol;

const HOUR: Duration = Duration::from_secs(3600);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
pub(super) const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\n";
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Far more than the buffers of four sockets hold, and than a body may occupy here.
const FLOOD: usize = 64 << 20;

pub(super) async fn lab() -> Lab {
    Lab::of(Protocol::Http, HOUR).await
}

pub(super) async fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).await.expect("written");
}

/// A client that has sent these bytes, and the target's side with the request's head.
pub(super) async fn asked(lab: &Lab, bytes: impl AsRef<[u8]>) -> (TcpStream, TcpStream, String) {
    let mut client = lab.dial().await;
    send(&mut client, bytes).await;
    let accepted = timeout(PATIENCE, lab.targets.accept()).await;
    let (mut target, _) = accepted.expect("a target is asked").expect("accepted");
    let head = head(&mut target).await;
    (client, target, head)
}

/// The lines of a head in which this word is, in order.
fn lines<'a>(head: &'a str, word: &str) -> Vec<&'a str> {
    head.lines().filter(|line| line.contains(word)).collect()
}

/// Nobody has asked a target.
pub(super) fn unasked(lab: &Lab) {
    let accepted = poll_once(lab);
    assert!(accepted.is_none(), "{accepted:?}");
}

fn poll_once(lab: &Lab) -> Option<TcpStream> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match lab.targets.poll_accept(&mut context) {
        std::task::Poll::Ready(accepted) => Some(accepted.expect("accepted").0),
        std::task::Poll::Pending => None,
    }
}

/// What a long body repeats.
fn piece() -> Vec<u8> {
    (0..=250).cycle().take(251 * 256).collect()
}
