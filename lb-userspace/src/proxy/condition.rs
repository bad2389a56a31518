//! Whether a request meets the condition of a rule.

use std::net::IpAddr;

use http::header::{HOST, HeaderValue};
use http::request;

use crate::config::{Case, Condition, Pattern};

/// Every part of the condition that is there must fit, with any of its values.
pub(super) fn meets(head: &request::Parts, client: IpAddr, when: &Condition) -> bool {
    any(&when.host, |one| one.matches(host(head), Case::Insensitive))
        && any(&when.path, |one| {
            one.matches(head.uri.path().as_bytes(), Case::Sensitive)
        })
        && any(&when.method, |one| *one == head.method)
        && any(&when.source, |one| one.contains(&client))
        && when.header.iter().all(|(name, patterns)| {
            let mut values = head.headers.get_all(name).iter();
            values.any(|value| fits(patterns, value.as_bytes()))
        })
        && when
            .query
            .iter()
            .all(|(key, patterns)| values(head, key).any(|value| fits(patterns, value)))
}

/// The host that the client asked for, without the port; empty if it named none.
pub(super) fn host(head: &request::Parts) -> &[u8] {
    let host = head
        .headers
        .get(HOST)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let port = match host.first() {
        // An IPv6 address has colons of its own.
        Some(b'[') => host.iter().position(|byte| *byte == b']').map(|at| at + 1),
        _ => host.iter().position(|byte| *byte == b':'),
    };
    host.get(..port.unwrap_or(host.len())).unwrap_or_default()
}

/// An empty list asks for nothing.
fn any<T>(list: &[T], fits: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

fn fits(patterns: &[Pattern], value: &[u8]) -> bool {
    any(patterns, |one| one.matches(value, Case::Insensitive))
}

/// The values of a key of the query, as sent.
fn values<'a>(head: &'a request::Parts, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = head.uri.query().unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        name.eq_ignore_ascii_case(key).then_some(value.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::Config;

    /// A condition as the configuration writes it.
    fn when(toml: &str) -> Condition {
        let text = format!(
            "[[listener]]\nname='a'\nbind='127.0.0.1:0'\nfixed_response={{status=404}}\n\
             [[listener.rule]]\npriority=1\nfixed_response={{status=200}}\nwhen={{{toml}}}\n"
        );
        let mut config = Config::parse(&text).expect("a good configuration");
        config.listeners.remove(0).rules.remove(0).when
    }

    fn met(condition: &str) -> bool {
        let request = Request::builder()
            .method("GET")
            .uri("/api/v1?Version=V1&debug&a=x%20y")
            .header(HOST, "WWW.example.com:8080")
            .header("x-env", "stable")
            .header("x-env", "beta-2")
            .body(());
        let (head, ()) = request.expect("a request").into_parts();
        let client = "192.0.2.7".parse().expect("an address");
        meets(&head, client, &when(condition))
    }

    #[test]
    fn each_part() {
        for met_by in [
            "",
            "host=['*.EXAMPLE.com']",
            "host=['a', 'www.example.com']",
            "path=['/api/*']",
            "header={x-env=['beta*']}",
            "header={X-Env=[]}",
            "method=['POST', 'GET']",
            "query={version=['v1']}",
            "query={debug=[]}",
            "query={a='x%20y'}",
            "source=['192.0.2.0/24']",
            "source='192.0.2.7'",
            "host=['*'], path=['/*'], query={}, source=[]",
        ] {
            assert!(met(met_by), "{met_by}");
        }
        for unmet in [
            "host=['example.com']",
            "host=['*:8080']",
            "path=['/API/*']",
            "path=['/api']",
            "header={x-env=['gamma']}",
            "header={x-other=[]}",
            "method=['POST']",
            "query={version=['v2']}",
            "query={nothing=[]}",
            "source=['198.51.100.0/24', '::/0']",
            "path=['/api/*'], method=['POST']",
        ] {
            assert!(!met(unmet), "{unmet}");
        }
    }

    #[test]
    fn hosts_without_their_ports() {
        let of = |value: &str| {
            let request = Request::builder().header(HOST, value).body(());
            let (head, ()) = request.expect("a request").into_parts();
            String::from_utf8(host(&head).to_vec()).expect("text")
        };
        assert_eq!(of("a.test:80"), "a.test");
        assert_eq!(of("a.test"), "a.test");
        assert_eq!(of("[::1]:80"), "[::1]");
        assert_eq!(of("[::1]"), "[::1]");
        assert_eq!(of("[::1"), "[::1");
        assert_eq!(of(""), "");
    }
}
