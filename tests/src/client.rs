//! The scripted client: HTTP, WebSocket, and bytes by hand.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, http};

use crate::head::{self, Head};
use crate::namespace::Namespace;
use crate::until::patient;
use crate::web_socket;

/// Nothing in the lab takes longer to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A WebSocket of the lab.
pub type WebSocket = WebSocketStream<TcpStream>;

/// Where to connect, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Client<'lab> {
    namespace: &'lab Namespace,
    address: SocketAddr,
}

/// An HTTP response, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: Head,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The affinity cookie it sets, as `name=value`.
    pub fn cookie(&self) -> Option<String> {
        cookie_of(self.head.all("set-cookie"))
    }
}

/// The affinity cookie among `Set-Cookie` values, as `name=value`.
pub fn cookie_of<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<String> {
    let value = values.find(|value| value.starts_with("LIMPET="))?;
    value.split(';').next().map(str::to_owned)
}

impl<'lab> Client<'lab> {
    /// A client in a namespace, of one address.
    pub fn new(namespace: &'lab Namespace, address: SocketAddr) -> Self {
        Self { namespace, address }
    }

    /// A connection, nothing sent yet.
    pub async fn connect(&self) -> Result<TcpStream> {
        timeout(patient(PATIENCE), self.namespace.connect(self.address)).await?
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, path: &str, cookie: Option<&str>) -> Result<Answer> {
        let cookie = cookie.map(|cookie| ("Cookie", cookie));
        self.get_with(path, cookie.as_slice()).await
    }

    /// The same with other headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let headers = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\n\r\n",
            self.address,
            headers.collect::<String>()
        );
        self.exchange(request.as_bytes()).await
    }

    /// Sends bytes on a connection of its own and reads one response.
    pub async fn exchange(&self, request: &[u8]) -> Result<Answer> {
        let mut stream = self.connect().await?;
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut Vec::new()).await
    }

    /// A WebSocket, with the headers of the 101.
    pub async fn web_socket(
        &self,
        path: &str,
        cookie: Option<&str>,
    ) -> Result<(WebSocket, http::HeaderMap)> {
        let stream = self.connect().await?;
        self.upgrade(stream, path, cookie).await
    }

    /// The same on a connection that may have carried requests before.
    pub async fn upgrade(
        &self,
        stream: TcpStream,
        path: &str,
        cookie: Option<&str>,
    ) -> Result<(WebSocket, http::HeaderMap)> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        if let Some(cookie) = cookie {
            request
                .headers_mut()
                .insert(http::header::COOKIE, cookie.parse()?);
        }
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (socket, response) = timeout(patient(PATIENCE), handshake)
            .await?
            .context("the handshake")?;
        Ok((socket, response.headers().clone()))
    }

    /// A WebSocket whose first text frames go out in one segment with the handshake.
    pub async fn eager(&self, path: &str, texts: &[&str]) -> Result<WebSocket> {
        let key = web_socket::key(texts.len() as u64);
        let mut bytes =
            web_socket::handshake(&self.address.to_string(), path, &key, None).into_bytes();
        texts
            .iter()
            .for_each(|text| bytes.extend(web_socket::text_frame(text)));
        let mut stream = self.connect().await?;
        stream.write_all(&bytes).await?;
        let rest = read_switching(&mut stream, &mut Vec::new(), &key).await?;
        Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await)
    }

    /// A stream of bytes after the handshake: what follows need not be frames.
    pub async fn raw(&self, path: &str, cookie: Option<&str>) -> Result<(TcpStream, Vec<u8>)> {
        let key = web_socket::key(0);
        let head = web_socket::handshake(&self.address.to_string(), path, &key, cookie);
        let mut stream = self.connect().await?;
        stream.write_all(head.as_bytes()).await?;
        let rest = read_switching(&mut stream, &mut Vec::new(), &key).await?;
        Ok((stream, rest))
    }
}

/// Reads one response; what follows it stays in `buffer`.
pub async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Answer> {
    let whole = async {
        let head = head::read(stream, buffer)
            .await?
            .context("closed without an answer")?;
        let body = head::read_body(stream, buffer, &head).await?;
        Ok(Answer {
            status: head.status()?,
            body: String::from_utf8_lossy(&body).into(),
            head,
        })
    };
    timeout(patient(PATIENCE), whole)
        .await
        .context("no answer")?
}

/// Reads the head of a 101 that answers `key`, and answers what followed it.
pub async fn read_switching(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    key: &str,
) -> Result<Vec<u8>> {
    let head = timeout(patient(PATIENCE), head::read(stream, buffer))
        .await
        .context("no answer to the handshake")??
        .context("closed during the handshake")?;
    ensure!(head.status()? == 101, "not switched: {head:?}");
    let accepted = head.get("sec-websocket-accept");
    ensure!(
        accepted == Some(&web_socket::accept(key)),
        "accepted another key: {head:?}"
    );
    Ok(std::mem::take(buffer))
}

/// The next message that is not a ping or pong.
pub async fn receive(socket: &mut WebSocket) -> Result<Message> {
    loop {
        match timeout(patient(PATIENCE), socket.next())
            .await
            .context("no message")?
        {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(message) => return Ok(message?),
            None => bail!("closed instead of a message"),
        }
    }
}

/// Sends a message and awaits the next one.
pub async fn ask(socket: &mut WebSocket, message: impl Into<Message>) -> Result<Message> {
    timeout(patient(PATIENCE), socket.send(message.into()))
        .await
        .context("sending")??;
    receive(socket).await
}

/// The name of the target at the other end.
pub async fn who(socket: &mut WebSocket) -> Result<String> {
    Ok(ask(socket, "who").await?.into_text()?.to_string())
}
