//! Clients of HTTP/2 for tests: the library's, and one that writes frames as bytes
//! and so can do what no library would.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

use crate::proxy::tls_lab::{self, Lab};
use crate::tls;

/// A client of the library, and how its connection ends.
pub(in crate::proxy) struct Client {
    pub(in crate::proxy) sender: SendRequest<Bytes>,
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(in crate::proxy) async fn new(lab: &Lab) -> Self {
        Self::built(lab, &h2::client::Builder::new()).await
    }

    pub(super) async fn built(lab: &Lab, builder: &h2::client::Builder) -> Self {
        Self::over(lab.client_of(tls::HTTP2).await, builder).await
    }

    /// With a certificate of this common name.
    pub(super) async fn named(lab: &Lab, common_name: &str) -> Self {
        let stream = lab.client_named(common_name, tls::HTTP2).await;
        Self::over(stream, &h2::client::Builder::new()).await
    }

    async fn over(stream: tls_lab::Client, builder: &h2::client::Builder) -> Self {
        let (sender, connection) = builder.handshake(stream).await.expect("a connection");
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request without a body; its answer is to be waited for.
    pub(in crate::proxy) async fn get(
        &mut self,
        request: http::request::Builder,
    ) -> h2::client::ResponseFuture {
        let request = request.body(()).expect("a request");
        self.ready().await;
        self.sender.send_request(request, true).expect("sent").0
    }

    /// Waits until a stream can be begun.
    pub(in crate::proxy) async fn ready(&mut self) {
        let ready = self.sender.clone().ready().await;
        self.sender = ready.expect("a connection");
    }

    /// Waits for the settings of the balancer.
    pub(super) async fn extended(&mut self) {
        while !self.sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

pub(in crate::proxy) fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://a.test{path}"))
}

/// The whole body.
pub(in crate::proxy) async fn body(response: Response<RecvStream>) -> Vec<u8> {
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("data");
        body.extend_from_slice(&data);
        let released = stream.flow_control().release_capacity(data.len());
        released.expect("released");
    }
    body
}

/// `:method GET`, `:scheme https`, `:path /`, `:authority a.test` (RFC 7541).
pub(super) const HEAD: &[u8] = b"\x82\x87\x84\x01\x06a.test";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 section 6.
pub(in crate::proxy) const DATA: u8 = 0;
pub(in crate::proxy) const HEADERS: u8 = 1;
pub(in crate::proxy) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(in crate::proxy) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(in crate::proxy) const END_STREAM: u8 = 1;
pub(in crate::proxy) const END_HEADERS: u8 = 4;

/// One frame as it stands on the wire.
pub(in crate::proxy) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A request that is whole.
pub(super) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD)
}

/// The head of one whose body is to come.
pub(super) fn upload(stream: u32) -> Vec<u8> {
    let mut head = HEAD.to_vec();
    // POST in the place of GET.
    head[0] = 0x83;
    frame(HEADERS, END_HEADERS, stream, &head)
}

/// The head of one whose headers are to come.
pub(super) fn unfinished(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, HEAD)
}

/// A client of bytes.
pub(in crate::proxy) struct Raw {
    pub(in crate::proxy) writer: Writer,
    pub(in crate::proxy) reader: Reader,
}

pub(in crate::proxy) struct Writer(WriteHalf<tls_lab::Client>);
pub(in crate::proxy) struct Reader(ReadHalf<tls_lab::Client>);

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct Frame {
    pub(in crate::proxy) kind: u8,
    pub(in crate::proxy) flags: u8,
    pub(in crate::proxy) stream: u32,
    pub(in crate::proxy) payload: Vec<u8>,
}

impl Frame {
    /// Of a RST_STREAM or a GOAWAY.
    pub(super) fn reason(&self) -> Reason {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().expect("four bytes");
        Reason::from(u32::from_be_bytes(code))
    }
}

impl Raw {
    /// Connects, and sends all this at once with what each client begins with.
    pub(in crate::proxy) async fn new(lab: &Lab, first: &[u8]) -> Self {
        let (reader, writer) = tokio::io::split(lab.client_of(tls::HTTP2).await);
        let mut raw = Self {
            writer: Writer(writer),
            reader: Reader(reader),
        };
        let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat();
        raw.writer.send(&[PREFACE, &settings, first].concat()).await;
        raw
    }
}

impl Writer {
    /// The balancer may have gone away meanwhile, which what it has sent will show.
    pub(in crate::proxy) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }
}

impl Reader {
    /// `None` once the balancer has ended the connection.
    pub(in crate::proxy) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The next frame of a kind; those of others are skipped.
    pub(super) async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self
                .next()
                .await
                .expect("a frame of that kind before the end");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads to the end of the connection; the reason of its last GOAWAY.
    pub(super) async fn end(mut self) -> Option<Reason> {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                reason = Some(frame.reason());
            }
        }
        reason
    }
}
