//! What cannot be read as a request is answered like any other fault: in the balancer's
//! words or its configured page, counted, behind the answers that are still owed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tls_lab::{Lab, head, limits, listener};
use crate::config::{Config, ErrorPages, Listener, Protocol};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);
const PAGE: &str = "<p>not here</p>";

/// A page for 400 and none for other codes.
fn pages() -> ErrorPages {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("limpet-unread-{}-{number}.html", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, PAGE).expect("written");
    let text = format!(
        "error_pages = {{ 400 = {file:?} }}\n\
         [[listener]]\nname = 'a'\nbind = '127.0.0.1:0'\nfixed_response = {{ status = 404 }}\n"
    );
    let mut config = Config::parse(&text).expect("a good configuration");
    std::fs::remove_file(file).expect("removed");
    config.listeners.remove(0).error_pages
}

async fn lab(protocol: Protocol) -> Lab {
    let listener = Listener {
        protocol,
        error_pages: pages(),
        ..listener(HOUR)
    };
    Lab::at(listener, limits()).await
}

/// All that comes back before the end.
async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, sent: &[u8]) -> String {
    // Refused before all of it was read, it may be closed.
    let _ = stream.write_all(sent).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("an end");
    String::from_utf8(answer).expect("text")
}

/// The status, and the body behind the head.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let length = format!("content-length: {}", body.len());
    assert!(head.contains(&length), "{answer}");
    assert!(head.contains("connection: close"), "{answer}");
    (&head["HTTP/1.1 ".len()..][..3], body)
}

#[tokio::test]
async fn each_has_its_code_and_its_page() {
    let lab = lab(Protocol::Http).await;
    let long = "x".repeat(70 * 1024);
    let many: String = (0..120).map(|number| format!("x{number}: y\r\n")).collect();
    for (sent, status, body) in [
        ("NONSENSE\r\n\r\n".to_owned(), "400", PAGE),
        ("\x16\x03\x01\x02\x00\x01\r\n".to_owned(), "400", PAGE),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400", PAGE),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), "400", PAGE),
        (
            format!("GET /{long} HTTP/1.1\r\n"),
            "414",
            "414 URI Too Long\nthe request line is too long\n",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            "431",
            "431 Request Header Fields Too Large\nthe headers are too large\n",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            "431",
            "431 Request Header Fields Too Large\nthe headers are too large\n",
        ),
    ] {
        let answer = exchange(lab.dial().await, sent.as_bytes()).await;
        let shown = &sent[..sent.len().min(40)];
        assert_eq!(parts(&answer), (status, body), "{shown:?}");
    }
    for (status, count) in [(400, 4), (414, 1), (431, 2)] {
        let labels = "listener=\"secure\",origin=\"balancer\",target_group=\"\"";
        let line = format!("limpet_requests_total{{code=\"{status}\",{labels}}} {count}");
        lab.counted(&line).await;
    }
    for (reason, count) in [
        ("malformed", 4),
        ("uri_too_long", 1),
        ("headers_too_large", 2),
    ] {
        let labels = format!("listener=\"secure\",reason=\"{reason}\"");
        lab.counted(&format!("limpet_rejected_total{{{labels}}} {count}"))
            .await;
    }
}

#[tokio::test]
async fn over_tls_too() {
    let lab = lab(Protocol::Https).await;
    let answer = exchange(lab.client().await, b"NONSENSE\r\n\r\n").await;
    assert_eq!(parts(&answer), ("400", PAGE));
}

#[tokio::test]
async fn the_answer_before_it_is_whole() {
    const BODY: usize = 300_000;
    let lab = lab(Protocol::Http).await;
    let serving = async {
        let (mut target, _) = lab.targets.accept().await.expect("accepted");
        loop {
            head(&mut target).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
            target.write_all(answer.as_bytes()).await.expect("written");
            target.write_all(&vec![b'y'; BODY]).await.expect("written");
        }
    };
    let asking = async {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        // In one segment, and thus in hyper's buffer at once.
        let sent = format!("{get}{get}NONSENSE\r\n\r\n");
        let answer = exchange(lab.dial().await, sent.as_bytes()).await;
        let mut rest = &answer[..];
        for _ in 0..2 {
            let (head, body) = rest.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let (body, next) = body.split_at(BODY);
            assert!(body.bytes().all(|byte| byte == b'y'), "another body");
            rest = next;
        }
        assert_eq!(parts(rest), ("400", PAGE));
    };
    tokio::select! {
        () = asking => {}
        () = serving => {}
    }
}
