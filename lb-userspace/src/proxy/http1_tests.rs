//! HTTP/1.1 by hand, on both sides: what must arrive, what must not, and when.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls_lab::{Lab, UPGRADE, head, limits, listener, read};
use crate::config::{Config, Limits, Listener, Protocol};

const HOUR: Duration = Duration::from_secs(3600);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
pub(super) const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\n";
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

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

#[tokio::test]
async fn continue_100_is_said_once_the_target_takes_the_body() {
    let lab = lab().await;
    let request = format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let (mut client, mut target, asked) = asked(&lab, request).await;
    assert_eq!(lines(&asked.to_lowercase(), "expect"), [""; 0], "{asked}");
    let told = head(&mut client).await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut client, "hello").await;
    assert_eq!(read(&mut target, 5).await, b"hello");
    send(&mut target, OK).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let lab = lab().await;
    let request = format!("{POST}Content-Length: 1000000\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let no = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    assert_eq!(read(&mut target, 5).await, b"begun");
    send(&mut target, no).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
    assert_eq!(read(&mut client, 2).await, b"no");
    // What follows is the body still, whatever it looks like.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    send(&mut client, smuggled).await;
    let more = read(&mut target, smuggled.len()).await;
    assert_eq!(more, smuggled.as_bytes());
    drop(target);
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    // In order or with a reset.
    let _ = ended.expect("an end");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    unasked(&lab);
}

#[tokio::test]
async fn a_body_may_take_its_time_after_an_early_answer() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let request = format!("{POST}Content-Length: 10\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    assert_eq!(read(&mut target, 5).await, b"begun");
    send(&mut target, OK).await;
    head(&mut client).await;
    assert_eq!(read(&mut client, 2).await, b"hi");
    send(&mut client, "h").await;
    assert_eq!(read(&mut target, 1).await, b"h");
    // Far longer than a head may take: it is not taken for the begin of one.
    let told = timeout(Duration::from_secs(1), client.read_u8()).await;
    assert!(told.is_err(), "{told:?}");
    send(&mut client, "alf!").await;
    assert_eq!(read(&mut target, 4).await, b"alf!");
}

#[tokio::test]
async fn trailers_of_a_request() {
    let lab = lab().await;
    let request = format!(
        "{POST}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"
    );
    let (mut client, mut target, asked) = asked(&lab, request).await;
    assert!(
        asked
            .to_lowercase()
            .contains("transfer-encoding: chunked\r\n")
    );
    let body = head(&mut target).await;
    assert_eq!(body.to_lowercase(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
    send(&mut target, OK).await;
    head(&mut client).await;
}

#[tokio::test]
async fn trailers_of_an_answer() {
    let lab = lab().await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, request).await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
    send(&mut target, answer).await;
    head(&mut client).await;
    let body = head(&mut client).await;
    assert_eq!(body.to_lowercase(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn trailers_of_one_hop_stay_behind() {
    let lab = lab().await;
    let names = "Trailer: X-Sum, X-Mine, Connection, Upgrade, X-Forwarded-For\r\n";
    let body = "2\r\nhi\r\n0\r\nX-Mine: 1\r\nConnection: close\r\nUpgrade: h2c\r\n\
                X-Forwarded-For: 1.2.3.4\r\nX-Sum: 7\r\n\r\n";
    let passed = "2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    let request = format!(
        "{POST}Transfer-Encoding: chunked\r\nTE: trailers\r\n\
         Connection: TE, X-Mine\r\n{names}\r\n{body}"
    );
    let (mut client, mut target, _) = asked(&lab, request).await;
    assert_eq!(head(&mut target).await.to_lowercase(), passed);
    // What the client was told to name is told to targets only.
    let body = body.replace("X-Forwarded-For: 1.2.3.4\r\n", "");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-mine\r\n{names}\r\n{body}"
    );
    send(&mut target, answer).await;
    head(&mut client).await;
    assert_eq!(head(&mut client).await.to_lowercase(), passed);
}

#[tokio::test]
async fn bodies_stream_both_ways_piece_by_piece() {
    let lab = lab().await;
    let request = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    send(&mut target, begin).await;
    head(&mut client).await;
    // Each piece is answered before the next one is sent.
    for number in 0..100 {
        let piece = format!("4\r\n{number:04}\r\n");
        send(&mut client, &piece).await;
        assert_eq!(read(&mut target, piece.len()).await, piece.as_bytes());
        send(&mut target, &piece).await;
        assert_eq!(read(&mut client, piece.len()).await, piece.as_bytes());
    }
    send(&mut client, "0\r\n\r\n").await;
    assert_eq!(read(&mut target, 5).await, b"0\r\n\r\n");
    send(&mut target, "0\r\n\r\n").await;
    assert_eq!(read(&mut client, 5).await, b"0\r\n\r\n");
}

/// Far more than the buffers of four sockets hold, and than a body may occupy here.
const FLOOD: usize = 64 << 20;

fn piece() -> Vec<u8> {
    (0..=250).cycle().take(251 * 256).collect()
}

/// Writes until nothing more is taken for a while; how much was.
async fn flood(stream: &mut TcpStream, piece: &[u8]) -> usize {
    let mut written = 0;
    while written < FLOOD {
        let at = written % piece.len();
        let write = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &piece[at..]));
        match timeout(Duration::from_millis(500), write).await {
            Ok(count) => written += count.expect("written"),
            Err(_) => return written,
        }
    }
    written
}

/// Reads what `flood` has written.
async fn drain(stream: &mut TcpStream, piece: &[u8], mut left: usize) {
    let mut place = 0;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        let count = stream.read(&mut buffer[..most]).await.expect("read");
        assert!(count > 0, "{left} bytes are missing");
        for byte in &buffer[..count] {
            assert_eq!(*byte, piece[place % piece.len()], "at {place}");
            place += 1;
        }
        left -= count;
    }
}

#[tokio::test]
async fn a_body_that_nobody_takes_stops_its_sender() {
    let piece = piece();
    let lab = lab().await;
    let request = format!("{POST}Content-Length: {FLOOD}\r\n\r\n");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let written = flood(&mut client, &piece).await;
    assert!(written < FLOOD, "all of it was buffered");
    drain(&mut target, &piece, written).await;
    // The same the other way.
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    send(&mut target, begin).await;
    head(&mut client).await;
    let written = flood(&mut target, &piece).await;
    assert!(written < FLOOD, "all of it was buffered");
    drain(&mut client, &piece, written).await;
}

#[tokio::test]
async fn informational_answers_come_before_the_one_that_counts() {
    let lab = lab().await;
    let early = "HTTP/1.1 100 Continue\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, UPGRADE).await;
    send(&mut target, early).await;
    send(&mut target, super::tls_lab::SWITCHED).await;
    send(&mut target, "hello").await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    assert_eq!(read(&mut client, 5).await, b"hello");
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    send(&mut target, early).await;
    send(&mut target, OK).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
}

#[tokio::test]
async fn a_body_with_the_upgrade_opens_nothing() {
    let lab = lab().await;
    let with = |header: &str, body: &str| {
        let head = UPGRADE.strip_suffix("\r\n").expect("an end");
        format!("{head}{header}\r\n\r\n{body}")
    };
    for request in [
        with("Content-Length: 5", "hello"),
        with("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut client = lab.dial().await;
        send(&mut client, request).await;
        let mut told = String::new();
        client.read_to_string(&mut told).await.expect("an answer");
        assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
        assert_eq!(told.matches("HTTP/1.1").count(), 1, "{told}");
        unasked(&lab);
    }
}

#[tokio::test]
async fn a_101_that_was_not_asked_for_is_no_tunnel() {
    let lab = lab().await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    send(&mut target, super::tls_lab::SWITCHED).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
    // The connection to the target is of no use any more.
    let ended = timeout(PATIENCE, target.read_u8()).await.expect("an end");
    assert!(ended.is_err(), "{ended:?}");
    assert!(lab.connections.relayed().is_empty());
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_its_answer() {
    let lab = lab().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, format!("{UPGRADE}{smuggled}")).await;
    // Nothing of them has been sent, neither here nor on another connection.
    send(
        &mut target,
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 426 "), "{told}");
    let mut rest = Vec::new();
    target.read_to_end(&mut rest).await.expect("an end");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    // They are a request of its own, as they would be without the one before.
    let (mut other, _) = lab.targets.accept().await.expect("accepted");
    let asked = head(&mut other).await;
    assert!(asked.starts_with("GET /smuggled HTTP/1.1\r\n"), "{asked}");
}

#[tokio::test]
async fn names_keep_their_case_and_values_their_order() {
    let lab = lab().await;
    let request = "GET /A%2fb?c=%20 HTTP/1.1\r\nhOsT: a.test\r\nX-ONE: 1\r\n\
                   Accept: b\r\nx-One: 2\r\nACCEPT: a\r\nX-One: 1\r\n\r\n";
    let (mut client, mut target, asked) = asked(&lab, request).await;
    assert!(
        asked.starts_with("GET /A%2fb?c=%20 HTTP/1.1\r\n"),
        "{asked}"
    );
    let lower = asked.to_lowercase();
    assert_eq!(lines(&asked, "a.test"), ["hOsT: a.test"]);
    assert_eq!(lines(&lower, "x-one"), ["x-one: 1", "x-one: 2", "x-one: 1"]);
    assert_eq!(lines(&asked, "X-ONE"), ["X-ONE: 1"]);
    assert_eq!(lines(&lower, "accept"), ["accept: b", "accept: a"]);
    let answer = "HTTP/1.1 200 OK\r\nSET-cookie: b=1\r\nX-Two: 1\r\nset-cookie: a=2\r\n\
                  Content-length: 0\r\n\r\n";
    send(&mut target, answer).await;
    let told = head(&mut client).await;
    let lower = told.to_lowercase();
    assert_eq!(lines(&told, "X-Two"), ["X-Two: 1"]);
    assert_eq!(
        lines(&lower, "set-cookie")[..2],
        ["set-cookie: b=1", "set-cookie: a=2"]
    );
}

/// The cookies that a target sees, as bytes, and the answer's own `Set-Cookie`.
async fn cookies_seen(lab: &Lab, sent: &[&[u8]]) -> (Vec<u8>, Option<String>) {
    let mut request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n".to_vec();
    for cookies in sent {
        request.extend([b"Cookie: ", *cookies, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    let mut client = lab.dial().await;
    send(&mut client, request).await;
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(target.read_u8().await.expect("a head"));
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    send(&mut target, answer).await;
    let told = head(&mut client).await;
    let ours = lines(&told, "LIMPET=").first().map(|line| {
        let (_, value) = line.split_once(": ").expect("a header");
        value.split(';').next().unwrap_or_default().to_owned()
    });
    let seen = asked
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            line.strip_prefix(b"Cookie: ")
                .or(line.strip_prefix(b"cookie: "))
        })
        .map(<[u8]>::trim_ascii_end)
        .collect::<Vec<_>>()
        .join(&b"|"[..]);
    (seen, ours)
}

#[tokio::test]
async fn cookies_of_every_kind() {
    let lab = lab().await;
    let (_, ours) = cookies_seen(&lab, &[]).await;
    let ours = ours.expect("a cookie");
    let many: Vec<String> = (0..300).map(|number| format!("c{number}=v")).collect();
    let many = many.join("; ").into_bytes();
    let long = [b"long=", "x".repeat(8 * 1024).as_bytes()].concat();
    let odd = b"odd=\xff\xfe\x80; other=\"1 2\"".to_vec();
    for others in [&many, &long, &odd] {
        let (seen, fresh) = cookies_seen(&lab, &[others]).await;
        assert_eq!(seen, *others);
        assert!(fresh.is_some(), "a session begins");
        let mine = [ours.as_bytes(), b"; ", others].concat();
        let (seen, fresh) = cookies_seen(&lab, &[&mine]).await;
        assert_eq!(seen, *others);
        assert_eq!(fresh, None, "the session goes on");
    }
    // Of several of ours the first that opens counts, and targets see none of them.
    let false_one = "LIMPET=AAAA\u{e9}; LIMPET=; limpet=kept";
    let several = format!("{false_one}; {ours}; LIMPET=x");
    let (seen, fresh) = cookies_seen(&lab, &[several.as_bytes(), b"LIMPET=y"]).await;
    assert_eq!(seen, b"limpet=kept");
    assert_eq!(fresh, None);
}

#[tokio::test]
async fn a_slow_head_is_408_and_reaches_nobody() {
    let limits = Limits {
        header_timeout: Duration::from_millis(50),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let mut client = lab.dial().await;
    send(&mut client, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow:").await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    unasked(&lab);
}

#[tokio::test]
async fn a_slow_body_is_408_and_the_target_is_let_go() {
    let limits = Limits {
        // Long enough for the target to be asked on a busy machine.
        response_timeout: Duration::from_secs(1),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let request = format!("{POST}Content-Length: 100\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    let mut seen = Vec::new();
    timeout(PATIENCE, target.read_to_end(&mut seen))
        .await
        .expect("an end")
        .ok();
    assert_eq!(seen, b"begun");
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let lab = Lab::of(Protocol::Http, Duration::from_secs(1)).await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    send(&mut target, begin).await;
    let piece = piece();
    let writing = async {
        // It ends when the balancer has ended the client.
        while target.write_all(&piece).await.is_ok() {}
    };
    timeout(PATIENCE, writing).await.expect("an end");
    // Nothing is kept for it: after what it has already comes a reset.
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let reset = ended.expect("an end").expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A listener with these lines of configuration.
fn configured(lines: &str) -> Listener {
    let text = format!("[[listener]]\nname='a'\nbind='127.0.0.1:0'\nredirect={{}}\n{lines}");
    let mut config = Config::parse(&text).expect("a good configuration");
    config.listeners.remove(0)
}

#[tokio::test]
async fn error_pages_stand_in_for_the_balancers_words_only() {
    let directory = std::env::temp_dir().join(format!("limpet-pages-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let page = |name: &str, text: &str| {
        let file = directory.join(name);
        std::fs::write(&file, text).expect("a page");
        file.display().to_string()
    };
    let (html, json) = (page("sorry.html", "<p>Sorry</p>"), page("bad.json", "{}"));
    let pages = format!("error_pages = {{ 400 = '{json}', 408 = '{json}', 502 = '{html}' }}\n");
    let listener = Listener {
        protocol: Protocol::Http,
        error_pages: configured(&pages).error_pages,
        ..listener(HOUR)
    };
    // They are in memory now.
    std::fs::remove_dir_all(&directory).expect("removed");
    let limits = Limits {
        header_timeout: Duration::from_millis(500),
        ..limits()
    };
    let lab = Lab::at(listener, limits).await;
    let told = async |request: &str| {
        let mut client = lab.dial().await;
        send(&mut client, request).await;
        let mut told = String::new();
        client.read_to_string(&mut told).await.expect("an answer");
        told
    };
    for (request, code) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost:", "408"),
    ] {
        let told = told(request).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {code} ")), "{told}");
        assert!(
            told.contains("content-type: application/json\r\n"),
            "{told}"
        );
        assert!(told.ends_with("\r\n\r\n{}"), "{told}");
    }
    // No page: the balancer's words. No body: none with a page either.
    let told = told("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 501 "), "{told}");
    assert!(told.contains("content-type: text/plain"), "{told}");
    for (method, body) in [("GET", "<p>Sorry</p>"), ("HEAD", "")] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (mut client, target, _) = asked(&lab, request).await;
        drop(target);
        let mut told = String::new();
        client.read_to_string(&mut told).await.expect("an answer");
        assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
        let type_and_length = [
            "content-type: text/html; charset=utf-8",
            "content-length: 12",
        ];
        for header in type_and_length {
            assert!(told.contains(header), "{told}");
        }
        assert!(told.ends_with(&format!("\r\n\r\n{body}")), "{told}");
    }
    // A target's own error is its own.
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    send(
        &mut target,
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno",
    )
    .await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("an answer");
    assert!(told.ends_with("\r\n\r\nno"), "{told}");
    let metrics = lab.metrics.render().expect("text");
    for (origin, count) in [("balancer", 2), ("target", 1)] {
        let line = format!(
            "limpet_requests_total{{code=\"502\",listener=\"secure\",origin=\"{origin}\",\
             target_group=\"chat\"}} {count}"
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}
