//! `GET /v1/events`: what happens from now on, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::events::{Event, Events};

/// Below the idle timeouts of what may lie between; it also finds out who is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

type Pieces = dyn stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send;

/// Events without an end.
pub(super) type Stream = StreamBody<Pin<Box<Pieces>>>;

/// Everything that is told from now on.
pub(super) fn stream(events: &Events) -> Response<Stream> {
    let opening = stream::once(async { ": events from now on\n\n".to_owned() });
    let told = stream::unfold(events.listen(), async |mut receiver| {
        next(&mut receiver).await.map(|text| (text, receiver))
    });
    let texts = stream::StreamExt::chain(opening, told);
    let frames = stream::StreamExt::map(texts, |text| Ok(Frame::data(text.into())));
    let mut response = Response::new(StreamBody::new(Box::pin(frames) as Pin<Box<Pieces>>));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `None` when the daemon ends.
async fn next(receiver: &mut Receiver<Event>) -> Option<String> {
    match timeout(HEARTBEAT, receiver.recv()).await {
        Err(_) => Some(": still here\n\n".to_owned()),
        Ok(Ok(event)) => Some(text(&event)),
        Ok(Err(RecvError::Lagged(count))) => Some(text(&Event {
            kind: "missed",
            data: json!({"count": count}),
        })),
        Ok(Err(RecvError::Closed)) => None,
    }
}

/// JSON has no line breaks of its own, so one `data` line is enough.
fn text(Event { kind, data }: &Event) -> String {
    format!("event: {kind}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn read(body: &mut Stream) -> String {
        let frame = body.frame().await.expect("a frame").expect("no error");
        let bytes = frame.into_data().expect("data");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn events_heartbeats_and_what_was_missed() {
        let events = Events::default();
        let mut body = stream(&events).into_body();
        assert!(read(&mut body).await.starts_with(": "));
        events.tell("target", json!({"state": "a\nb"}));
        assert_eq!(
            read(&mut body).await,
            "event: target\ndata: {\"state\":\"a\\nb\"}\n\n"
        );
        // Nothing happens: the clock runs on to the heartbeat.
        assert!(read(&mut body).await.starts_with(": still"));
        for number in 0..2_000 {
            events.tell("target", json!(number));
        }
        assert!(read(&mut body).await.starts_with("event: missed\n"));
        assert!(read(&mut body).await.starts_with("event: target\n"));
    }
}
