//! The tunnel of a client or a target that speaks TLS, or HTTP/2 in it: relayed here to
//! its end, because the kernel's program has no keys.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::tls_pump::TlsPump;
use super::tunnel::{Cause, Tunnel, report};
use super::wire::Wire;
use crate::connections::Listed;
use crate::drain::{Drain, Stage};

impl Tunnel {
    /// Relays until the end. `to_target` is what the client sent right behind its
    /// request.
    pub(super) async fn run_in_layers(self, client: Wire, to_target: Bytes, _held: impl Send) {
        let Self {
            target,
            to_client,
            opening: _,
            candidate,
            listed,
            in_flight: _in_flight,
            line,
            idle_timeout,
            metrics,
            drain,
        } = self;
        // It was refused before the target was dialled.
        drop(candidate);
        metrics.never(listed.reason());
        let mut relay = Relay {
            client,
            target,
            inward: TlsPump::new(to_target),
            outward: TlsPump::new(to_client),
            idle_timeout,
            payload: Instant::now(),
        };
        let cause = relay.run(&listed, drain).await;
        let bytes = relay.moved();
        relay.close(cause).await;
        report(&listed, line, &metrics, cause, bytes);
    }
}

/// The tunnel at work.
struct Relay {
    client: Wire,
    target: Wire,
    inward: TlsPump,
    outward: TlsPump,
    idle_timeout: Duration,
    /// When payload last moved.
    payload: Instant,
}

impl Relay {
    async fn run(&mut self, listed: &Listed, mut drain: Drain) -> Cause {
        loop {
            let idle_at = self.payload + self.idle_timeout;
            tokio::select! {
                cause = poll_fn(|cx| self.poll(cx, listed)) => return cause,
                () = tokio::time::sleep_until(idle_at) => {}
                () = drain.reached(Stage::Closing) => return Cause::Drained,
                cause = listed.asked_to_end() => return Cause::Ended(cause),
            }
            // Payload has moved since, or it has not.
            if self.payload + self.idle_timeout <= Instant::now() {
                return Cause::Idle;
            }
        }
    }

    /// Moves what can be moved in both directions and books it.
    fn poll(&mut self, cx: &mut Context<'_>, listed: &Listed) -> Poll<Cause> {
        let before = self.moved();
        let inward = self.inward.poll(cx, &mut self.client, &mut self.target);
        let outward = self.outward.poll(cx, &mut self.target, &mut self.client);
        let after = self.moved();
        if after != before {
            self.payload = Instant::now();
            listed.set_bytes(after.0, after.1);
        }
        if self.inward.eof() || self.outward.eof() {
            listed.set_closing();
        }
        match (inward, outward) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Cause::Reset),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Cause::Closed),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }

    fn moved(&self) -> (u64, u64) {
        (self.inward.moved(), self.outward.moved())
    }

    /// Lets go of both sides, in the way that the cause asks for.
    async fn close(mut self, cause: Cause) {
        match cause {
            Cause::HandedOff | Cause::Closed => {}
            Cause::Drained => {
                self.client.take_leave().await;
                self.target.take_leave().await;
            }
            Cause::Reset | Cause::Idle | Cause::Ended(_) => {
                self.client.reset_when_dropped();
                self.target.reset_when_dropped();
            }
        }
    }
}
