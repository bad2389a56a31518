//! Heads: names, values and cookies as the other side sees them.

use http::{HeaderValue, StatusCode};
use tokio::io::AsyncReadExt;

use super::{GET, HOUR, asked, lab, lines, send};
use crate::config::{Action, Fixed, Limits, Listener, Protocol};
use crate::proxy::tls_lab::{Lab, head, limits, listener};

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

#[tokio::test]
async fn a_status_without_a_name_is_given_none() {
    let fixed = Fixed {
        status: StatusCode::from_u16(299).expect("a status"),
        content_type: HeaderValue::from_static("text/plain"),
        body: "hi".into(),
    };
    let listener = Listener {
        protocol: Protocol::Http,
        action: Action::Fixed(fixed),
        ..listener(HOUR)
    };
    let fixing = Lab::at(listener, limits()).await;
    let mut client = fixing.dial().await;
    send(&mut client, GET).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 299 \r\n"), "{told}");
    // A target's words are passed on.
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    send(&mut target, "HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n").await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 299 Odd\r\n"), "{told}");
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

/// So many fields.
fn fields(count: usize) -> String {
    (0..count)
        .map(|number| format!("X-{number}: abc\r\n"))
        .collect()
}

#[tokio::test]
async fn heads_have_as_many_fields_as_the_limit_says() {
    for header_count in [20, 150] {
        let limits = Limits {
            header_count,
            ..limits()
        };
        let lab = Lab::with(Protocol::Http, HOUR, limits).await;
        let begin = "GET / HTTP/1.1\r\nHost: a.test\r\n";
        let most = format!("{begin}{}\r\n", fields(header_count - 1));
        let (mut client, mut target, _) = asked(&lab, &most).await;
        let answer = |count| format!("HTTP/1.1 204 No Content\r\n{}\r\n", fields(count));
        send(&mut target, answer(header_count)).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 204 "));
        // A target's answer may have no more either.
        send(&mut client, &most).await;
        head(&mut target).await;
        send(&mut target, answer(header_count + 1)).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 502 "));
        let mut client = lab.dial().await;
        let more = format!("{begin}{}\r\n", fields(header_count));
        send(&mut client, more).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 431 "));
    }
}

#[tokio::test]
async fn heads_have_as_many_bytes_as_the_limit_says() {
    let limits = Limits {
        header_bytes: 16 * 1024,
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let of = |value: usize| {
        let long = "x".repeat(value);
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: {long}\r\n\r\n")
    };
    asked(&lab, of(15 * 1024)).await;
    let mut client = lab.dial().await;
    send(&mut client, of(17 * 1024)).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 431 "));
}
