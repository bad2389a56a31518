//! One flow on its way out: when its end is certain, how long its entry is still
//! needed, and what is booked then.

use std::time::{Duration, Instant};

use lb_common::flow::Flow;
use lb_common::track::over;
use lb_common::word;
use tokio::sync::mpsc;

use super::active::Active;
use super::ports::{REST_BRIEF, REST_TIME_WAIT};
use super::table::{Entry, monotonic};
use super::types::{EndCause, Event};
use super::unix_seconds;

/// An entry closed in order stays for retransmissions of the last FIN: five
/// doublings of the least retransmission timeout of 200 ms.
const LINGER_CLOSED: Duration = Duration::from_secs(5);
/// How long a last FIN may stay without any progress toward its acknowledgment: what
/// Linux gives a closed socket that nobody answers (tcp_orphan_retries, about 100 s).
const LAST_ACK: Duration = Duration::from_secs(120);
/// After a reset only packets already under way are expected.
const LINGER_RESET: Duration = Duration::from_secs(1);

/// A flow on its way out.
#[derive(Debug)]
pub(super) struct Closing {
    id: u64,
    /// Where both sides' acknowledgments stood, and since when.
    stood: ([u32; 2], Instant),
    /// Set once the end is certain: why, and when the entry may go.
    ended: Option<(EndCause, Instant)>,
}

impl Closing {
    /// Of the flow with this id, not ended yet.
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            stood: ([0; 2], Instant::now()),
            ended: None,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Why it has ended, once that is certain.
    pub(super) fn cause(&self) -> Option<EndCause> {
        self.ended.map(|(cause, _)| cause)
    }

    /// It was ended from here.
    pub(super) fn end(&mut self, cause: EndCause) {
        self.ended
            .get_or_insert((cause, Instant::now() + LINGER_RESET));
    }

    /// Why the flow has ended, once its entry may go.
    pub(super) fn due(&mut self, flow: &Flow, now: Instant) -> Option<EndCause> {
        let reused = flow.word & word::REUSED != 0;
        if self.ended.is_none() {
            let cause = cause_of(flow);
            let linger = if cause != EndCause::Closed {
                LINGER_RESET
            } else if over(flow, flow.word) || reused {
                LINGER_CLOSED
            } else {
                self.patience(flow, now)?
            };
            self.ended = Some((cause, now + linger));
        }
        let (cause, at) = self.ended?;
        (reused || at <= now).then_some(cause)
    }

    /// For how long a last FIN that nobody acknowledges is still waited for: none,
    /// once nothing has moved for too long.
    fn patience(&mut self, flow: &Flow, now: Instant) -> Option<Duration> {
        let stands = flow.halves.map(|half| half.last_ack);
        if self.stood.0 != stands {
            self.stood = (stands, now);
        }
        (now.duration_since(self.stood.1) >= LAST_ACK).then_some(Duration::ZERO)
    }
}

/// How a flow that ends by itself has ended.
pub(super) fn cause_of(flow: &Flow) -> EndCause {
    let resets = word::RST | word::RST << word::TARGET_SHIFT | word::ENDED;
    match flow.word & resets {
        0 => EndCause::Closed,
        _ => EndCause::Reset,
    }
}

/// Books the end of a flow that is out of the table, lets its port rest.
pub(super) fn book(active: &Active, events: &mpsc::Sender<Event>, entry: &Entry, cause: EndCause) {
    let flow = entry.info(active.path(), monotonic(), unix_seconds());
    let waits = entry.flow.word & word::TARGET_WAITS != 0;
    let unfinished = !over(&entry.flow, entry.flow.word);
    let rest = if cause == EndCause::Closed && (waits || unfinished) {
        REST_TIME_WAIT
    } else {
        REST_BRIEF
    };
    tracing::debug!(id = %format_args!("{:016x}", flow.id), ?cause, ?rest, "flow deleted");
    active.release(entry, rest);
    // A full channel means that the daemon is far behind; waiting is right, the
    // table keeps everything. A closed one means that it is going.
    let _ = events.blocking_send(Event::Ended { flow, cause });
}
