//! Whatever a client of a pass-through listener sends first, its name is read or it is
//! refused, however the bytes come; and the target gets the bytes that came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use crate::tls::hello::{self, Hello};

/// The first byte of the input says how the rest is cut.
pub fn check(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else {
        return;
    };
    let whole = read(bytes, bytes.len());
    let cut = read(bytes, usize::from(*step) + 1);
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole.name, cut.name, "the same name");
            assert!(bytes.starts_with(&whole.bytes), "what came, whole");
            assert!(bytes.starts_with(&cut.bytes), "what came, in pieces");
            let name = whole.name.unwrap_or_default();
            assert_eq!(name, name.to_ascii_lowercase(), "in lower case");
        }
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("whole {whole:?}, in pieces {cut:?}"),
    }
}

fn read(bytes: &[u8], step: usize) -> io::Result<Hello> {
    let read = async { hello::read(&mut Pieces { bytes, step }).await };
    read.now_or_never().expect("nothing to wait for")
}

/// Gives its bytes in pieces.
struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.step.min(self.bytes.len()).min(buffer.remaining());
        let (piece, rest) = self.bytes.split_at(length);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
