//! Bodies on their way through: streamed, never collected.
//!
//! `upload` is what a client sends, `reply` what it gets.

mod reply;
mod upload;

use std::error::Error;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;

pub(super) use reply::Reply;
pub(crate) use upload::Parcel;
pub(super) use upload::{Passed, Progress, Sender, Upload};

/// What breaks a body off.
type Broken = Box<dyn Error + Send + Sync>;

fn trailers<E>(frame: &mut Poll<Option<Result<Frame<Bytes>, E>>>) -> Option<&mut HeaderMap> {
    match frame {
        Poll::Ready(Some(Ok(frame))) => frame.trailers_mut(),
        Poll::Ready(None | Some(Err(_))) | Poll::Pending => None,
    }
}
