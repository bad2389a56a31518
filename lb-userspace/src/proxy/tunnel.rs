//! The tunnel after a verified 101: relayed here until the kernel takes it.
//!
//! ```text
//!   Relaying ── quiet moment, try_handoff ──▶ Committed (both sockets dropped)
//!      │  ▲────────── NotNow: later ─────────────┘
//!      ├── never quiet ──▶ Held: both ends stop at a full window; asked again
//!      │                    └── too long ──▶ Relaying
//!      └── both halves closed │ reset │ idle │ drained │ asked to ──▶ ended
//! ```

use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::attempts::{Attempts, Hold};
use super::pump::{Flow, Pump};
use super::wire::Wire;
use crate::access;
use crate::connections::Listed;
use crate::dataplane::{self, Candidate, EndCause, Handoff, Refusal};
use crate::drain::{Drain, Stage};
use crate::metrics::TunnelMetrics;
use crate::names;
use crate::target::InFlight;

/// A verified upgrade that waits for its client's side.
#[derive(Debug)]
pub(super) struct Tunnel<T = Wire> {
    pub(super) target: T,
    /// What the target sent right behind its 101.
    pub(super) to_client: Bytes,
    pub(super) opening: Opening,
    pub(super) candidate: Candidate,
    pub(super) listed: Listed,
    /// Its place at the target.
    pub(super) in_flight: InFlight,
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
    /// Relays in a task of its own, as small as a tunnel. `to_target` is what the
    /// client sent right behind its request; what is held goes with its stream.
    pub(super) fn begin(self, client: Wire, to_target: Bytes, held: impl Send + 'static) {
        match (client, self) {
            (
                Wire::Tcp(client),
                Self {
                    target: Wire::Tcp(target),
                    to_client,
                    opening,
                    candidate,
                    listed,
                    line,
                    idle_timeout,
                    metrics,
                    drain,
                    in_flight,
                },
            ) => {
                let tunnel = Tunnel {
                    target,
                    to_client,
                    opening,
                    candidate,
                    listed,
                    line,
                    idle_timeout,
                    metrics,
                    drain,
                    in_flight,
                };
                tokio::spawn(tunnel.run(client, to_target, held))
            }
            (client, tunnel) => tokio::spawn(tunnel.run_in_layers(client, to_target, held)),
        };
    }
}

impl Tunnel<TcpStream> {
    /// Relays until the end or the handoff. `to_target` is what the client sent
    /// right behind its request.
    pub(super) async fn run(self, client: TcpStream, to_target: Bytes, _held: impl Send) {
        let Self {
            target,
            to_client,
            opening,
            candidate,
            listed,
            in_flight,
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
        if cause == Cause::HandedOff {
            in_flight.handed_off();
        }
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
        if let Some(reason) = self.candidate.refusal() {
            self.never(reason, listed, metrics);
        } else if let Err(error) = self.candidate.prepare(&self.client, &self.target) {
            debug!(%error, "the sockets could not be prepared");
            return Cause::Reset;
        }
        loop {
            if let Some(cause) = listed.ending() {
                return Cause::Ended(cause);
            }
            let Ok((inward, outward)) = self
                .hold_or_release(listed, metrics)
                .and_then(|()| self.step(listed))
            else {
                return Cause::Reset;
            };
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

    /// Holds both streams where no quiet moment has come, and lets go of them where
    /// that has not helped.
    fn hold_or_release(&mut self, listed: &Listed, metrics: &TunnelMetrics) -> std::io::Result<()> {
        if self.attempts.hold_over() {
            self.release()?;
            if let Some(held) = self.attempts.released() {
                metrics.held(held);
            }
            if self.candidate.refusal().is_none() {
                listed.set_reason(Refusal::Busy);
            }
        } else if self.attempts.hold_due() && !self.inward.eof() && !self.outward.eof() {
            let round_trip = dataplane::round_trip(&self.client, &self.target);
            match self.attempts.hold(round_trip) {
                Hold::Begun => {
                    self.inward.hold();
                    self.outward.hold();
                }
                Hold::InVain if listed.reason() == Refusal::Pending => {
                    listed.set_reason(Refusal::Busy);
                }
                Hold::InVain | Hold::Later => {}
            }
        }
        Ok(())
    }

    fn release(&mut self) -> std::io::Result<()> {
        self.inward.release(&self.client)?;
        self.outward.release(&self.target)
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
        let ahead = [self.inward.ahead(), self.outward.ahead()];
        let attempt = || {
            self.candidate
                .try_handoff(&self.client, &self.target, ahead)
        };
        let Some(answer) = listed.hand_off(attempt) else {
            return false;
        };
        match answer {
            Handoff::Committed => {
                metrics.committed(listed.opened.elapsed());
                if let Some(held) = self.attempts.released() {
                    metrics.held(held);
                }
            }
            Handoff::NotNow(reason) => {
                let reason = self.attempts.later(reason);
                listed.set_reason(reason);
                metrics.not_now(reason);
            }
            Handoff::Never(reason) => self.never(reason, listed, metrics),
        }
        answer == Handoff::Committed
    }

    fn never(&mut self, reason: Refusal, listed: &Listed, metrics: &TunnelMetrics) {
        listed.set_reason(reason);
        metrics.never(reason);
        self.attempts.stop();
    }

    /// Sleeps until there is something to do; a cause if that is to end.
    async fn wait(&mut self, inward: Flow, outward: Flow, listed: &Listed) -> Option<Cause> {
        let quiet = (inward, outward) == (Flow::Quiet, Flow::Quiet);
        let idle_at = self.payload + self.idle_timeout;
        let wake_at = self
            .attempts
            .wake_at(quiet)
            .map_or(idle_at, |at| idle_at.min(at));
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
    fn close(mut self, cause: Cause) {
        match cause {
            // The data plane has the sockets in repair: no call may touch them
            // any more, and dropping them sends nothing.
            Cause::HandedOff => {}
            // What is unread would make a reset of the FIN; and a reset it is if
            // that fails.
            Cause::Closed | Cause::Drained => drop(self.release()),
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
