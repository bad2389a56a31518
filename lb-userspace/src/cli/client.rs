//! Makes one call of a daemon's admin API.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Ask;

/// A daemon that is there answers at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The daemon could not be reached: exit status 3.
#[derive(Debug)]
pub(super) struct Unreached {
    admin: String,
    error: io::Error,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no daemon was reached at {}: {}", self.admin, self.error)
    }
}

impl std::error::Error for Unreached {}

/// GETs `path` and gives back the JSON of a good answer.
pub(super) fn get(ask: &Ask, path: &str) -> anyhow::Result<Value> {
    call(ask, Method::GET, path, None)
}

/// Calls `path`, with a body where there is one to say.
pub(super) fn call(
    ask: &Ask,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let request = request(ask, method, path, body)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, fetch(ask, request))
            .await
            .unwrap_or_else(|_| Err(unreached(ask, io::ErrorKind::TimedOut.into())))
    })
}

async fn fetch(ask: &Ask, request: Request<Full<Bytes>>) -> anyhow::Result<Value> {
    if let Some(socket) = ask.admin.strip_prefix("unix:") {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| unreached(ask, error))?;
        return exchange(ask, stream, request).await;
    }
    let stream = TcpStream::connect(authority(ask)?)
        .await
        .map_err(|error| unreached(ask, error))?;
    exchange(ask, stream, request).await
}

async fn exchange(
    ask: &Ask,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Value> {
    let broken = |error: hyper::Error| unreached(ask, io::Error::other(error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !status.is_success() {
        let message = value.pointer("/error/message").and_then(Value::as_str);
        bail!(
            "the daemon answered {status}: {}",
            message.unwrap_or("no reason given")
        );
    }
    Ok(value)
}

fn request(
    ask: &Ask,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let host = if ask.admin.starts_with("unix:") {
        "localhost"
    } else {
        authority(ask)?
    };
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host);
    if let Some(file) = &ask.token_file {
        builder = builder.header(AUTHORIZATION, format!("Bearer {}", read_token(file)?));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    Ok(builder.body(Full::from(body))?)
}

fn authority(ask: &Ask) -> anyhow::Result<&str> {
    let authority = ask
        .admin
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'));
    authority.with_context(|| format!("{:?} is neither http://HOST:PORT nor unix:/PATH", ask.admin))
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

fn unreached(ask: &Ask, error: io::Error) -> anyhow::Error {
    Unreached {
        admin: ask.admin.clone(),
        error,
    }
    .into()
}
