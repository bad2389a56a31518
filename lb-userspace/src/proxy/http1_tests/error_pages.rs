//! Error pages: in place of the balancer's words, never of a target's.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{HOUR, asked, send};
use crate::config::{Config, Limits, Listener, Protocol};
use crate::proxy::tls_lab::{Lab, limits, listener};
use crate::scratch::Scratch;

#[tokio::test]
async fn error_pages_stand_in_for_the_balancers_words_only() {
    let scratch = Scratch::new("pages");
    let page = |name: &str, text: &str| scratch.write(name, text);
    let (html, json) = (page("sorry.html", "<p>Sorry</p>"), page("bad.json", "{}"));
    let pages = format!("error_pages = {{ 400 = '{json}', 408 = '{json}', 502 = '{html}' }}\n");
    let listener = Listener {
        protocol: Protocol::Http,
        error_pages: configured(&pages).error_pages,
        ..listener(HOUR)
    };
    // They are in memory now.
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

/// A listener with these lines of configuration.
fn configured(lines: &str) -> Listener {
    let text = format!("[[listener]]\nname='a'\nbind='127.0.0.1:0'\nredirect={{}}\n{lines}");
    let mut config = Config::parse(&text).expect("a good configuration");
    config.listeners.remove(0)
}
