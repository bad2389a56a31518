//! Who the client is, as targets are told, and clients that say too much of it.

use super::{HOUR, OK, asked, send, unasked};
use crate::config::{ForwardedFor, Listener, Protocol};
use crate::proxy::tls_lab::{Lab, head, limits, listener};

const ALL: [ForwardedFor; 4] = [
    ForwardedFor::Append,
    ForwardedFor::AppendWithPort,
    ForwardedFor::Preserve,
    ForwardedFor::Remove,
];

async fn telling(mode: ForwardedFor) -> Lab {
    let listener = Listener {
        protocol: Protocol::Http,
        x_forwarded_for: mode,
        ..listener(HOUR)
    };
    Lab::at(listener, limits()).await
}

/// A request with these header lines.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

/// One that names so many addresses, in two headers.
fn naming(count: usize) -> String {
    let line = |count: usize| format!("X-Forwarded-For: {}\r\n", vec!["1.2.3.4"; count].join(", "));
    get(&format!("{}{}", line(count / 2), line(count - count / 2)))
}

#[tokio::test]
async fn what_targets_are_told_of_a_client() {
    for mode in ALL {
        let lab = telling(mode).await;
        let forged = get("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Port: 1\r\n\
                          X-Forwarded-Proto: gopher\r\nX_Forwarded_For: 5.6.7.8\r\n");
        let (client, _target, head) = asked(&lab, forged).await;
        let own = client.local_addr().expect("an address");
        let expected = match mode {
            ForwardedFor::Append => Some(format!("1.2.3.4, {}", own.ip())),
            ForwardedFor::AppendWithPort => Some(format!("1.2.3.4, {own}")),
            ForwardedFor::Preserve => Some("1.2.3.4".to_owned()),
            ForwardedFor::Remove => None,
        };
        let told = |name: &str| -> Vec<String> {
            let head = head.to_lowercase().replace('_', "-");
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(found, _)| *found == name)
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        assert_eq!(
            told("x-forwarded-for"),
            Vec::from_iter(expected),
            "{mode:?}"
        );
        assert_eq!(told("x-forwarded-proto"), ["http"], "{mode:?}");
        let port = lab.balancer.port().to_string();
        assert_eq!(told("x-forwarded-port"), [port], "{mode:?}");
    }
}

#[tokio::test]
async fn more_than_thirty_addresses_are_463_whatever_is_done_with_them() {
    for mode in ALL {
        let lab = telling(mode).await;
        let mut client = lab.dial().await;
        send(&mut client, naming(31)).await;
        let told = head(&mut client).await;
        assert!(
            told.starts_with("HTTP/1.1 463 Refused\r\n"),
            "{mode:?}: {told}"
        );
        unasked(&lab);
        let line = r#"limpet_rejected_total{listener="secure",reason="too_many_forwarded"} 1"#;
        lab.counted(line).await;
        let (mut client, mut target, _) = asked(&lab, naming(30)).await;
        send(&mut target, OK).await;
        let told = head(&mut client).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{mode:?}: {told}");
    }
}
