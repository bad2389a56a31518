//! Answers that send the client elsewhere, and answers written in the
//! configuration.

use std::net::SocketAddr;

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, request};

use super::body::Reply;
use super::condition;
use super::fault::Fault;
use crate::config::{Fixed, Placeholder, Protocol, Redirect};

/// Sends the client where `redirect` says.
pub(super) fn redirect(
    redirect: &Redirect,
    head: &request::Parts,
    protocol: Protocol,
    local: SocketAddr,
) -> Result<Response<Reply>, Fault> {
    let location = HeaderValue::try_from(location(redirect, head, protocol, local))
        .map_err(|_| Fault::Malformed("the request target is malformed"))?;
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Answers what the configuration says.
pub(super) fn fixed(fixed: &Fixed) -> Response<Reply> {
    let mut response = Response::new(Reply::bytes(fixed.body.clone()));
    *response.status_mut() = fixed.status;
    let content_type = fixed.content_type.clone();
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An absolute URL; the port only where the scheme does not say it.
fn location(
    redirect: &Redirect,
    head: &request::Parts,
    protocol: Protocol,
    local: SocketAddr,
) -> String {
    let fill = |name: Placeholder, text: &mut String| match name {
        Placeholder::Protocol => text.push_str(protocol.as_str()),
        Placeholder::Host => text.push_str(&host(head, local)),
        Placeholder::Port => text.push_str(&local.port().to_string()),
        Placeholder::Path => {
            let path = head.uri.path();
            text.push_str(path.strip_prefix('/').unwrap_or(path));
        }
        Placeholder::Query => text.push_str(head.uri.query().unwrap_or_default()),
    };
    let scheme = redirect.scheme.render(fill);
    let port = match redirect.port.render(fill) {
        port if default_port(&scheme) == port => String::new(),
        port => format!(":{port}"),
    };
    let query = match redirect.query.render(fill) {
        query if query.is_empty() => query,
        query => format!("?{query}"),
    };
    let host = redirect.host.render(fill);
    let path = redirect.path.render(fill);
    format!("{scheme}://{host}{port}{path}{query}")
}

/// The host that was asked for; without one, the address that was connected to.
fn host(head: &request::Parts, local: SocketAddr) -> String {
    match condition::host(head) {
        [] if local.is_ipv6() => format!("[{}]", local.ip()),
        [] => local.ip().to_string(),
        host => String::from_utf8_lossy(host).into_owned(),
    }
}

fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { "443" } else { "80" }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::HOST;

    use super::*;
    use crate::config::{Action, Config};

    fn of(toml: &str, uri: &str, host: Option<&str>) -> String {
        let text = format!("[[listener]]\nname='a'\nbind='127.0.0.1:0'\nredirect={{{toml}}}\n");
        let mut config = Config::parse(&text).expect("a good configuration");
        let Action::Redirect(redirect) = config.listeners.remove(0).action else {
            panic!("not a redirect");
        };
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let local = "[2001:db8::1]:8080".parse().expect("an address");
        location(&redirect, &head, Protocol::Http, local)
    }

    #[test]
    fn placeholders_and_defaults() {
        let a = Some("host");
        assert_eq!(of("", "/a?b=1", a), "https://host/a?b=1");
        assert_eq!(of("", "/", Some("host:8080")), "https://host/");
        assert_eq!(of("port='8443'", "/", a), "https://host:8443/");
        assert_eq!(of("", "/x", None), "https://[2001:db8::1]/x");
        assert_eq!(of("scheme='http'", "//x//?", a), "http://host//x//");
        assert_eq!(
            of("scheme='#{protocol}', path='/new/#{path}'", "/a", a),
            "http://host:8080/new/a"
        );
        assert_eq!(
            of("host='new.#{host}', query='from=#{query}&x'", "/a?b", a),
            "https://new.host/a?from=b&x"
        );
        assert_eq!(of("path='/', query=''", "/a?b", a), "https://host/");
    }
}
