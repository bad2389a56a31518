//! The head of an HTTP/1.1 message, read by hand: the tests must not share a
//! parser with what they test.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt};

/// More than any head of the lab.
const LONGEST: usize = 64 * 1024;

/// First line and header fields, as they came.
#[derive(Debug, Clone)]
pub struct Head {
    /// The request line or status line.
    pub first: String,
    /// Names as they came, values trimmed, in order.
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').with_context(|| format!("{line:?}"))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { first, fields })
    }

    /// The values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated field has a token.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// The status of a response.
    pub fn status(&self) -> Result<u16> {
        let word = self.first.split(' ').nth(1);
        word.and_then(|code| code.parse().ok())
            .with_context(|| format!("not a status line: {:?}", self.first))
    }

    /// The path and query of a request.
    pub fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }
}

/// Reads one head; what came after it stays in `buffer`. `None` when the peer
/// closed between messages.
pub async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Head::parse(std::str::from_utf8(&head)?).map(Some);
        }
        if buffer.len() > LONGEST {
            bail!("a head of more than {LONGEST} bytes");
        }
        if stream.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            bail!(
                "closed inside a head: {:?}",
                String::from_utf8_lossy(buffer)
            );
        }
    }
}

/// Reads the body that follows a response's head.
pub async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    head: &Head,
) -> Result<Vec<u8>> {
    if head.has_token("transfer-encoding", "chunked") {
        return read_chunks(stream, buffer).await;
    }
    if let Some(length) = head.get("content-length") {
        return take(stream, buffer, length.parse()?).await;
    }
    if matches!(head.status()?, 100..200 | 204 | 304) {
        return Ok(Vec::new());
    }
    stream.read_to_end(buffer).await?;
    Ok(std::mem::take(buffer))
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(take(stream, buffer, 1).await?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line)?.trim(), 16)?;
        let chunk = take(stream, buffer, size + 2).await?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn take<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    count: usize,
) -> Result<Vec<u8>> {
    while buffer.len() < count {
        if stream.read_buf(buffer).await? == 0 {
            bail!("closed after {} of {count} bytes", buffer.len());
        }
    }
    Ok(buffer.drain(..count).collect())
}
