//! Requests over HTTP/2, between the library's client and a scripted target.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol as Extended;
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::lab::{self, Client, DATA, GOAWAY, Raw, body, get};
use crate::config::{Limits, Protocol, TargetGroup};
use crate::proxy::tls_lab::{Lab, head, limits, listener, read};

const HOUR: Duration = Duration::from_secs(3600);
/// Short, and long enough for what must come before it has passed.
const SECOND: Duration = Duration::from_secs(1);
const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\nhi";

/// The target's side of a request: its connection, and the head it has read.
async fn asked(lab: &Lab) -> (TcpStream, String) {
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    let head = head(&mut target).await;
    (target, head)
}

#[tokio::test]
async fn a_request_and_the_next_of_its_session() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    let answer = client.get(get("/a?b")).await;
    let (mut target, asked) = asked(&lab).await;
    assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: a.test\r\n"), "{asked}");
    assert!(asked.contains("x-forwarded-proto: https\r\n"), "{asked}");
    assert!(asked.contains("x-forwarded-for: 127.0.0.1\r\n"), "{asked}");
    target.write_all(OK).await.expect("written");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers();
    assert!(!headers.contains_key("connection") && !headers.contains_key("x-hop"));
    assert!(headers.contains_key("date"));
    let cookie = headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(body(answer).await, b"hi");

    let ours = cookie.split(';').next().expect("a pair");
    let request = get("/").header("cookie", "a=1").header("cookie", ours);
    let answer = client.get(request.header("cookie", "b=2")).await;
    let asked = head(&mut target).await;
    assert!(asked.contains("cookie: a=1; b=2\r\n"), "{asked}");
    target.write_all(OK).await.expect("written");
    let answer = answer.await.expect("an answer");
    assert!(!answer.headers().contains_key("set-cookie"));
    lab.counted(r#"limpet_stickiness_total{target_group="chat",verdict="valid"} 1"#)
        .await;
    lab.counted(r#"limpet_requests_total{code="200",listener="secure",origin="target",target_group="chat"} 2"#).await;
}

#[tokio::test]
async fn targets_are_told_whose_certificate_it_was() {
    let lab = Lab::telling_subjects().await;
    for (mut client, subject) in [
        (
            Client::named(&lab, "alice").await,
            Some("CN=alice,O=Example\\, Inc."),
        ),
        (Client::new(&lab).await, None),
    ] {
        client.extended().await;
        let socket = Request::connect("https://a.test/")
            .extension(Extended::from_static("websocket"))
            .header("sec-websocket-version", "13");
        for (request, whole) in [(get("/"), true), (socket, false)] {
            let request = request
                .header("x-client-cert-subject", "CN=mallory")
                .header("x_client_cert_subject", "CN=mallory");
            let request = request.body(()).expect("a request");
            client.ready().await;
            let _asking = client.sender.send_request(request, whole).expect("sent");
            let (_target, asked) = asked(&lab).await;
            let asked = asked.replace('_', "-");
            let lines = asked.lines().filter_map(|line| line.split_once(": "));
            let told: Vec<&str> = lines
                .filter(|(name, _)| *name == "x-client-cert-subject")
                .map(|(_, value)| value)
                .collect();
            assert_eq!(told, Vec::from_iter(subject), "{asked}");
        }
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_and_trailers_come_behind() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    client.ready().await;
    let request = Request::post("https://a.test/").header("trailer", "x-sum");
    let request = request.body(()).expect("a request");
    let (answer, mut upload) = client.sender.send_request(request, false).expect("sent");
    upload
        .send_data(Bytes::from_static(b"one"), false)
        .expect("sent");
    let (mut target, asked) = asked(&lab).await;
    assert!(asked.contains("transfer-encoding: chunked\r\n"), "{asked}");
    // Each piece arrives before the next is sent.
    assert_eq!(read(&mut target, 8).await, b"3\r\none\r\n");
    let begun =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n3\r\nuno\r\n";
    target.write_all(begun).await.expect("written");
    let mut answer = answer.await.expect("an answer").into_body();
    let data = answer.data().await.expect("a piece").expect("data");
    assert_eq!(&data[..], b"uno");
    upload
        .send_data(Bytes::from_static(b"two!"), false)
        .expect("sent");
    assert_eq!(read(&mut target, 9).await, b"4\r\ntwo!\r\n");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().expect("a value"));
    upload.send_trailers(trailers).expect("sent");
    assert_eq!(read(&mut target, 15).await, b"0\r\nx-sum: 7\r\n\r\n");
    target
        .write_all(b"0\r\nx-end: 1\r\n\r\n")
        .await
        .expect("written");
    assert!(answer.data().await.is_none());
    let trailers = answer
        .trailers()
        .await
        .expect("no error")
        .expect("trailers");
    assert_eq!(trailers["x-end"], "1");
}

/// A client would have to take such a stream for malformed (RFC 9113 section 8.2.2).
#[tokio::test]
async fn trailers_of_one_hop_do_not_break_the_stream() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    for field in [
        "Connection: close",
        "Transfer-Encoding: chunked",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "Proxy-Connection: close",
        "TE: gzip",
        "X-Mine: 1",
    ] {
        let answer = client.get(get("/")).await;
        let (mut target, _) = asked(&lab).await;
        let sent = format!(
            "HTTP/1.1 200 OK\r\nConnection: close, x-mine\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n{field}\r\nX-Sum: 7\r\n\r\n"
        );
        target.write_all(sent.as_bytes()).await.expect("written");
        let mut answer = answer.await.expect("an answer").into_body();
        let data = answer.data().await.expect("a piece").expect("data");
        assert_eq!(&data[..], b"hi");
        assert!(answer.data().await.is_none());
        let trailers = answer.trailers().await.expect("no reset");
        let trailers = trailers.expect("trailers");
        assert_eq!(trailers.len(), 1, "{field}");
        assert_eq!(trailers["x-sum"], "7");
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole_beside_a_small_one() {
    let large: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    let answer = client.get(get("/large")).await;
    let (mut target, _) = asked(&lab).await;
    let sent = large.clone();
    let writer = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        target.write_all(head.as_bytes()).await.expect("written");
        target.write_all(&sent).await.expect("written");
    });
    let waiting = answer.await.expect("an answer");
    // The first one's window is full; the second needs none of it.
    let answer = client.get(Request::head("https://a.test/")).await;
    let (mut target, asked) = asked(&lab).await;
    assert!(asked.starts_with("HEAD / HTTP/1.1\r\n"), "{asked}");
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    target.write_all(head).await.expect("written");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.headers()["content-length"], "1234");
    assert!(answer.body().is_end_stream());
    assert!(body(waiting).await == large, "not as sent");
    writer.await.expect("the writer ends");
}

#[tokio::test]
async fn faults_are_answers_and_cost_no_connection() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    let mut many = get("/");
    for number in 0..100 {
        many = many.header(format!("x-{number}"), "1");
    }
    let crumb = "x".repeat(9 * 1024);
    let crumbs = get("/").header("cookie", &crumb).header("cookie", &crumb);
    let hosts = get("/").header("host", "b.test");
    for (request, status) in [
        (many, 431),
        (crumbs, 431),
        (get("/").header("x", "y".repeat(17 * 1024)), 431),
        // Far over what the settings allow: the library answers that.
        (get("/").header("x", "y".repeat(70 * 1024)), 431),
        (get(&format!("/{}", "a".repeat(17 * 1024))), 414),
        (hosts, 400),
        (Request::connect("a.test:80"), 501),
    ] {
        let answer = client.get(request).await.await.expect("an answer");
        assert_eq!(answer.status(), status);
        assert!(!answer.headers().contains_key("connection"));
    }
    drop(lab.targets);
    let answer = client.get(get("/")).await.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let text = body(answer).await;
    assert!(text.starts_with(b"502 Bad Gateway\n"), "{text:?}");
}

#[tokio::test]
async fn a_request_taken_back_is_taken_back_from_the_target() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    client.ready().await;
    let request = get("/").body(()).expect("a request");
    let (answer, mut stream) = client.sender.send_request(request, false).expect("sent");
    let (mut target, _) = asked(&lab).await;
    stream.send_reset(Reason::CANCEL);
    let mut rest = Vec::new();
    // An end, or a reset: the request was not whole.
    let _ = target.read_to_end(&mut rest).await;
    assert!(answer.await.is_err());
    lab.counted(r#"code="460",listener="secure",origin="balancer",target_group="chat"} 1"#)
        .await;
}

#[tokio::test]
async fn a_target_that_breaks_off_resets_the_stream_alone() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    let answer = client.get(get("/")).await;
    let (mut target, _) = asked(&lab).await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    target.write_all(half).await.expect("written");
    let mut stream = answer.await.expect("an answer").into_body();
    assert_eq!(
        &stream.data().await.expect("a piece").expect("data")[..],
        b"half"
    );
    drop(target);
    let error = stream.data().await.expect("an end").expect_err("a reset");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let answer = client.get(get("/")).await;
    let (mut target, _) = asked(&lab).await;
    target.write_all(OK).await.expect("written");
    assert_eq!(body(answer.await.expect("an answer")).await, b"hi");
}

#[tokio::test]
async fn an_idle_connection_is_told_and_ends() {
    let lab = Lab::new(Duration::from_millis(50)).await;
    let raw = Raw::new(&lab, &[]).await;
    assert_eq!(raw.reader.end().await, Some(Reason::NO_ERROR));
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_gone() {
    let lab = Lab::new(SECOND).await;
    let mut raw = Raw::new(&lab, &lab::request(1)).await;
    // The target is silent; nothing but the ping can tell.
    let (mut target, _) = asked(&lab).await;
    let goaway = raw.reader.next_of(GOAWAY).await;
    assert_eq!(goaway.reason(), Reason::NO_ERROR);
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_reset_alone() {
    let lab = Lab::new(SECOND).await;
    let mut builder = h2::client::Builder::new();
    // No window at all: no byte of a body may come.
    let mut client = Client::built(&lab, builder.initial_window_size(0)).await;
    let answer = client.get(get("/")).await;
    let (mut target, _) = asked(&lab).await;
    let last = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    target.write_all(last).await.expect("written");
    let mut stream = answer.await.expect("an answer").into_body();
    let error = stream.data().await.expect("an end").expect_err("a reset");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    let answer = client.get(Request::head("https://a.test/")).await;
    let (mut target, _) = asked(&lab).await;
    target
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .expect("written");
    assert_eq!(
        answer.await.expect("an answer").status(),
        StatusCode::NO_CONTENT
    );
}

/// Its target is busy with it until it is over, and takes nobody else meanwhile.
#[tokio::test]
async fn an_upload_behind_its_answer_goes_on_as_long_as_it_moves() {
    let alone = |_: &_, group: &mut TargetGroup| group.max_connections = 1;
    let lab = Lab::toward(listener(SECOND), limits(), alone).await;
    let mut client = Client::new(&lab).await;
    let request = Request::post("https://a.test/")
        .body(())
        .expect("a request");
    client.ready().await;
    let (answer, mut upload) = client.sender.send_request(request, false).expect("sent");
    let (mut target, _) = asked(&lab).await;
    target.write_all(OK).await.expect("written");
    assert_eq!(body(answer.await.expect("an answer")).await, b"hi");
    let answered = Instant::now();
    let next = client.get(get("/next")).await;
    sleep(SECOND / 2).await;
    let piece = Bytes::from_static(b"one");
    upload.send_data(piece, false).expect("still taken");
    assert_eq!(read(&mut target, 8).await, b"3\r\none\r\n");
    let reset = poll_fn(|cx| upload.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), Reason::NO_ERROR);
    assert!(answered.elapsed() >= SECOND * 3 / 2);
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    assert!(answered.elapsed() >= SECOND * 3 / 2);
    head(&mut target).await;
    target.write_all(OK).await.expect("written");
    assert_eq!(body(next.await.expect("an answer")).await, b"hi");
}

#[tokio::test]
async fn an_old_connection_takes_no_more_and_answers_what_it_has() {
    let limits = Limits {
        connection_lifetime: SECOND,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    let mut raw = Raw::new(&lab, &lab::request(1)).await;
    let (mut target, _) = asked(&lab).await;
    let goaway = raw.reader.next_of(GOAWAY).await;
    assert_eq!(goaway.reason(), Reason::NO_ERROR);
    target.write_all(OK).await.expect("written");
    let answer = raw.reader.next_of(DATA).await;
    assert_eq!((answer.stream, &answer.payload[..]), (1, &b"hi"[..]));
}

#[tokio::test]
async fn a_drain_lets_requests_end() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    let answer = client.get(get("/")).await;
    let (mut target, _) = asked(&lab).await;
    lab.drainer.start();
    target.write_all(OK).await.expect("written");
    assert_eq!(body(answer.await.expect("an answer")).await, b"hi");
    client
        .connection
        .await
        .expect("no panic")
        .expect("an end in order");
    lab.drainer.finish(Duration::from_secs(60)).await;
}
