//! The tunnel after a verified 101: relayed here until the kernel takes it.
//!
//! ```text
//!   Relaying ── quiet moment, try_handoff ──▶ Committed (both sockets dropped)
//!      │  ▲────────── NotNow: later ─────────────┘
//!      └── both halves closed │ reset │ idle │ drained │ asked to ──▶ ended
//! ```

use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::pump::{Flow, Pump};
use crate::access;
use crate::connections::Listed;
use crate::dataplane::{Candidate, EndCause, Handoff, Refusal};
use crate::drain::{Drain, Stage};
use crate::metrics::TunnelMetrics;
use crate::names;

/// The first pause between two attempts to hand off.
const BACKOFF_FIRST: Duration = Duration::from_millis(1);
/// The longest: an attempt costs some tens of microseconds, and what has not been
/// quiet in a hundred tries will not miss a second.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An attempt that has waited this long for a quiet moment means a busy connection.
const BUSY_AFTER: Duration = Duration::from_secs(1);

/// A verified upgrade that waits for its client's side.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) target: TcpStream,
    /// What the target sent right behind its 101.
    pub(super) to_client: Bytes,
    pub(super) opening: Opening,
    pub(super) candidate: Candidate,
    pub(super) listed: Listed,
    pub(super) line: access::Open,
    pub(super) idle_timeout: Duration,
    pub(super) metrics: TunnelMetrics,
    pub(super) drain: Drain,
}

/// What the client has been sent since its leg is observed. As long as that is
/// nothing, nothing of the client's need have passed the program, and an attempt
/// would find that it sees nothing of this leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A 101.
    Answered,
    /// Nothing.
    Silent,
}

/// Why a relay ended; the word in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Closed,
    Reset,
    Idle,
    Drained,
    /// Ended from here.
    Ended(EndCause),
    HandedOff,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::Ended(cause) => names::end_cause(cause),
            Self::HandedOff => "handed_off",
        }
    }
}

impl Tunnel {
    /// Relays until the end or the handoff. `to_target` is what the client sent
    /// right behind its request.
    pub(super) async fn run(self, client: TcpStream, to_target: Bytes) {
        let Self {
            target,
            to_client,
            opening,
            candidate,
            listed,
            line,
            idle_timeout,
            metrics,
            drain,
        } = self;
        let mut relay = Relay {
            client,
            target,
            inward: Pump::new(to_target),
            outward: Pump::new(to_client),
            candidate,
            attempts: Attempts::new(opening),
            idle_timeout,
            payload: Instant::now(),
            drain,
        };
        let cause = relay.run(&listed, &metrics).await;
        let (bytes_in, bytes_out) = (relay.inward.moved(), relay.outward.moved());
        relay.close(cause);
        report(&listed, line, &metrics, cause, (bytes_in, bytes_out));
    }
}

/// The tunnel at work.
struct Relay {
    client: TcpStream,
    target: TcpStream,
    inward: Pump,
    outward: Pump,
    candidate: Candidate,
    attempts: Attempts,
    idle_timeout: Duration,
    /// When payload last moved.
    payload: Instant,
    drain: Drain,
}

impl Relay {
    async fn run(&mut self, listed: &Listed, metrics: &TunnelMetrics) -> Cause {
        loop {
            if let Some(cause) = listed.ending() {
                return Cause::Ended(cause);
            }
            let Ok((inward, outward)) = self.step(listed) else {
                return Cause::Reset;
            };
            if self.attempts.overdue() && !self.inward.eof() && !self.outward.eof() {
                listed.set_reason(Refusal::Busy);
            }
            match (inward, outward) {
                (Flow::Ended, Flow::Ended) => return Cause::Closed,
                (Flow::More, _) | (_, Flow::More) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                (Flow::Quiet, Flow::Quiet)
                    if self.attempts.due() && self.try_handoff(listed, metrics) =>
                {
                    return Cause::HandedOff;
                }
                _ => {}
            }
            if let Some(cause) = self.wait(inward, outward, listed).await {
                return cause;
            }
        }
    }

    /// Moves what can be moved in both directions and books it.
    fn step(&mut self, listed: &Listed) -> std::io::Result<(Flow, Flow)> {
        let before = (self.inward.moved(), self.outward.moved());
        let inward = self.inward.step(&self.client, &self.target)?;
        let outward = self.outward.step(&self.target, &self.client)?;
        let after = (self.inward.moved(), self.outward.moved());
        if after != before {
            self.payload = Instant::now();
            listed.set_bytes(after.0, after.1);
        }
        if after.1 > 0 {
            self.attempts.answered();
        }
        if self.inward.eof() || self.outward.eof() {
            listed.set_closing();
        }
        Ok((inward, outward))
    }

    /// Asks the data plane once; true if the kernel has the connection.
    fn try_handoff(&mut self, listed: &Listed, metrics: &TunnelMetrics) -> bool {
        let attempt = || self.candidate.try_handoff(&self.client, &self.target);
        let Some(answer) = listed.hand_off(attempt) else {
            return false;
        };
        match answer {
            Handoff::Committed => metrics.committed(listed.opened.elapsed()),
            Handoff::NotNow(reason) => {
                listed.set_reason(reason);
                metrics.not_now(reason);
                self.attempts.later();
            }
            Handoff::Never(reason) => {
                listed.set_reason(reason);
                metrics.never(reason);
                self.attempts.stop();
            }
        }
        answer == Handoff::Committed
    }

    /// Sleeps until there is something to do; a cause if that is to end.
    async fn wait(&mut self, inward: Flow, outward: Flow, listed: &Listed) -> Option<Cause> {
        let quiet = (inward, outward) == (Flow::Quiet, Flow::Quiet);
        let idle_at = self.payload + self.idle_timeout;
        let wake_at = match self.attempts.next {
            Some(next) if quiet => idle_at.min(next),
            _ => idle_at,
        };
        tokio::select! {
            () = ready(&self.client, inward, outward) => None,
            () = ready(&self.target, outward, inward) => None,
            () = tokio::time::sleep_until(wake_at) => {
                (Instant::now() >= idle_at).then_some(Cause::Idle)
            }
            () = self.drain.reached(Stage::Closing) => Some(Cause::Drained),
            cause = listed.asked_to_end() => Some(Cause::Ended(cause)),
        }
    }

    /// Lets go of both sockets, in the way that the cause asks for.
    fn close(self, cause: Cause) {
        match cause {
            // The data plane has the sockets in repair: no call may touch them
            // any more, and dropping them sends nothing.
            Cause::HandedOff | Cause::Closed | Cause::Drained => {}
            // A reset is passed on as a reset; what is ended from here gets one so
            // that both ends learn of it at once.
            Cause::Reset | Cause::Idle | Cause::Ended(_) => {
                reset_when_dropped(&self.client);
                reset_when_dropped(&self.target);
            }
        }
        // The sockets first: the candidate, dropped with the rest, gives back
        // the port that they use.
        drop(self.client);
        drop(self.target);
    }
}

/// Makes a reset of what would be a FIN.
pub(super) fn reset_when_dropped(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "a reset could not be asked for");
    }
}

/// Waits for what `socket` can do: be read for `reading`, be written for
/// `writing`. A direction that waits for neither never wakes the tunnel.
async fn ready(socket: &TcpStream, reading: Flow, writing: Flow) {
    let interest = match (reading == Flow::Quiet, writing == Flow::Blocked) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (true, false) => Interest::READABLE,
        (false, true) => Interest::WRITABLE,
        (false, false) => return std::future::pending().await,
    };
    // An error shows again, with its name, in the next step.
    let _ = socket.ready(interest).await;
}

/// When to ask for the handoff again.
#[derive(Debug)]
struct Attempts {
    /// `None`: not yet, or never again.
    next: Option<Instant>,
    pause: Duration,
    opening: Opening,
}

impl Attempts {
    fn new(opening: Opening) -> Self {
        Self {
            next: match opening {
                Opening::Answered => Some(Instant::now()),
                Opening::Silent => None,
            },
            pause: BACKOFF_FIRST,
            opening,
        }
    }

    /// The client is being sent something, and will acknowledge it.
    fn answered(&mut self) {
        if self.opening == Opening::Silent {
            *self = Self::new(Opening::Answered);
        }
    }

    fn due(&self) -> bool {
        self.next.is_some_and(|next| next <= Instant::now())
    }

    /// No quiet moment has come for long.
    fn overdue(&self) -> bool {
        self.next
            .is_some_and(|next| next + BUSY_AFTER <= Instant::now())
    }

    fn later(&mut self) {
        self.next = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

/// Writes the books of a connection that is not relayed any more.
pub(super) fn report(
    listed: &Listed,
    mut line: access::Open,
    metrics: &TunnelMetrics,
    cause: Cause,
    (bytes_in, bytes_out): (u64, u64),
) {
    let duration = listed.opened.elapsed();
    if cause == Cause::HandedOff {
        // The line is written when the flow ends.
        line.forget();
        debug!(
            id = %format_args!("{:016x}", listed.id), client = %listed.client, target = %listed.target,
            after_seconds = duration.as_secs_f64(), "connection handed to the kernel"
        );
        return;
    }
    metrics.ended("userspace", cause.as_str(), duration);
    line.note(|record| {
        record.bytes_in = bytes_in;
        record.bytes_out = bytes_out;
        record.cause = cause.as_str();
    });
    debug!(
        listener = listed.listener, target_group = listed.target_group,
        target = %listed.target, client = %listed.client, path = "userspace",
        reason = names::refusal(listed.reason()), bytes_in, bytes_out,
        duration_seconds = duration.as_secs_f64(), cause = cause.as_str(), "connection ended"
    );
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
