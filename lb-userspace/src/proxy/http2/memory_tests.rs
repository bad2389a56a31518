//! What clients that mean harm can make the balancer hold. Client, balancer and targets of
//! a test run on its one thread, so all that they allocate is counted; what the client
//! sends is made beforehand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::lab::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw,
    Reader, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::allocated;
use crate::proxy::tls_lab::{Lab, head};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;
/// Streams that one connection may have.
const STREAMS: u32 = 128;

/// A lab whose targets take all they are asked and answer nothing.
async fn silent() -> (Arc<Lab>, Arc<AtomicUsize>) {
    let lab = Arc::new(Lab::new(HOUR).await);
    let asked = Arc::new(AtomicUsize::new(0));
    let (targets, count) = (lab.clone(), asked.clone());
    tokio::spawn(async move {
        while let Ok((mut target, _)) = targets.targets.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut taken = [0; 4096];
                while matches!(target.read(&mut taken).await, Ok(1..)) {}
            });
        }
    });
    (lab, asked)
}

/// Sends it all to silent targets while reading what comes back, to a GOAWAY or the end of
/// a stream or PING told apart by `done`. Answers requests that reached a target and bytes.
async fn flood(bytes: Vec<u8>, done: impl FnMut(&lab::Frame) -> bool) -> (usize, usize) {
    let (lab, asked) = silent().await;
    let Raw {
        mut writer,
        mut reader,
    } = Raw::new(&lab, &[]).await;
    allocated::begin();
    let writing = async {
        // TLS on the client's side must not be given all at once.
        for piece in bytes.chunks(16 * 1024) {
            writer.send(piece).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = read_until(&mut reader, done);
    let both = async {
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    };
    timeout(PATIENCE, both).await.expect("an answer");
    (asked.load(Ordering::Relaxed), allocated::most())
}

async fn read_until(reader: &mut Reader, mut done: impl FnMut(&lab::Frame) -> bool) {
    while let Some(frame) = reader.next().await {
        if frame.kind == GOAWAY || done(&frame) {
            return;
        }
    }
}

/// Requests, each followed by what is done to its stream.
fn streams(count: u32, mut each: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| each(2 * number + 1)).collect()
}

#[track_caller]
fn bounded((asked, bytes): (usize, usize), most_asked: usize, most: usize) {
    println!("{asked} requests reached the target, {bytes} bytes at most");
    assert!(asked <= most_asked, "{asked} requests reached the target");
    assert!(bytes <= most, "{bytes} bytes were held");
}

#[tokio::test]
async fn rapid_reset() {
    let cancel = 8_u32.to_be_bytes();
    let each = |stream| [lab::request(stream), frame(RST_STREAM, 0, stream, &cancel)].concat();
    bounded(flood(streams(20_000, each), |_| false).await, 228, 4 * MIB);
}

#[tokio::test]
async fn made_you_reset() {
    let too_much = 0x7fff_ffff_u32.to_be_bytes();
    let each = |stream| {
        let grown = frame(WINDOW_UPDATE, 0, stream, &too_much);
        [lab::request(stream), grown].concat()
    };
    bounded(flood(streams(20_000, each), |_| false).await, 384, 4 * MIB);
}

#[tokio::test]
async fn continuations_without_end() {
    // A literal field with the name and the value "x".
    let field = b"\x00\x01x\x01x".repeat(1_000);
    let mut bytes = lab::unfinished(1);
    bytes.extend(frame(CONTINUATION, 0, 1, &field).repeat(1_000));
    bounded(flood(bytes, |_| false).await, 0, 2 * MIB);
}

/// A cookie of 4,000 bytes goes into the table of HPACK, and then costs its client one byte
/// each time that it is named (RFC 7541 section 6.1).
fn crumbs(stream: u32, count: usize) -> Vec<u8> {
    let mut block = lab::HEAD.to_vec();
    // Literal with indexing, name of the static table, a length of 3,873 + 127.
    block.extend(b"\x60\x7f\xa1\x1e");
    block.extend(b"k=".iter().chain(&[b'v'; 3_998]));
    block.extend(vec![0xbe; count]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[tokio::test]
async fn a_bomb_of_cookie_crumbs() {
    // More than the library takes, and less.
    for count in [12_000, 20] {
        let bytes = streams(STREAMS, |stream| crumbs(stream, count));
        let mut answers = 0;
        let answered = |frame: &lab::Frame| {
            answers += u32::from(frame.kind == HEADERS);
            answers == STREAMS
        };
        bounded(flood(bytes, answered).await, 0, 8 * MIB);
    }
}

#[tokio::test]
async fn data_without_bytes() {
    let mut bytes = lab::upload(1);
    bytes.extend(frame(DATA, 0, 1, &[]).repeat(100_000));
    bounded(flood(bytes, |_| false).await, 1, 2 * MIB);
}

#[tokio::test]
async fn settings_and_pings() {
    const MANY: usize = 50_000;
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[7; 8])] {
        let mut acknowledged = 0;
        let all = |frame: &lab::Frame| {
            // ACK.
            acknowledged += usize::from(frame.kind == kind && frame.flags == 1);
            acknowledged >= MANY
        };
        let bytes = frame(kind, 0, 0, payload).repeat(MANY);
        bounded(flood(bytes, all).await, 0, 2 * MIB);
    }
}

/// Asks for as many answers as it may and takes nothing of them. A target whose balancer
/// took all that there is would never stand still.
#[tokio::test]
async fn a_window_that_never_opens() {
    const PIECE: &[u8] = &[b'x'; 64 * 1024];
    /// A stream's window toward the client, and hyper's largest buffer of a target's answer.
    const MOST: usize = STREAMS as usize * (32 + 408) * 1024 + 8 * MIB;
    let lab = Arc::new(Lab::new(HOUR).await);
    let written = Arc::new(AtomicU64::new(0));
    let (targets, count) = (lab.clone(), written.clone());
    tokio::spawn(async move {
        while let Ok((mut target, _)) = targets.targets.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                // The kernel is not to hold much more.
                let socket = SockRef::from(&target);
                socket.set_send_buffer_size(PIECE.len()).expect("an option");
                head(&mut target).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                target.write_all(answer).await.expect("written");
                while let Ok(taken) = target.write(PIECE).await {
                    count.fetch_add(taken as u64, Ordering::Relaxed);
                }
            });
        }
    });
    // SETTINGS_INITIAL_WINDOW_SIZE (4) of zero.
    let closed = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let asked = streams(STREAMS, lab::request);
    allocated::begin();
    let Raw {
        mut writer,
        mut reader,
    } = Raw::new(&lab, &closed).await;
    writer.send(&asked).await;
    let mut heads = 0;
    let answered = |frame: &lab::Frame| {
        heads += u32::from(frame.kind == HEADERS);
        heads == STREAMS
    };
    let read = read_until(&mut reader, answered);
    timeout(PATIENCE, read).await.expect("all heads");
    // Until the targets have stood still for a moment.
    let mut before = 0;
    while written.load(Ordering::Relaxed) != before {
        before = written.load(Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
        let bytes = allocated::most();
        println!("{before} bytes left the targets, {bytes} were held at most");
        assert!(bytes <= MOST, "{bytes} bytes were held");
    }
}
