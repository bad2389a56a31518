//! Trailers, of requests and of answers.

use super::{GET, OK, POST, asked, lab, send};
use crate::proxy::tls_lab::head;

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
    assert!(head(&mut client).await.contains("Trailer: X-Sum\r\n"));
    let body = head(&mut client).await;
    assert_eq!(body.to_lowercase(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn trailers_that_a_client_does_not_take_are_not_announced() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
    send(&mut target, answer).await;
    let told = head(&mut client).await.to_lowercase();
    assert!(
        told.starts_with("http/1.1 200 ") && !told.contains("trailer"),
        "{told}"
    );
    assert_eq!(head(&mut client).await, "5\r\nhello\r\n0\r\n\r\n");
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
