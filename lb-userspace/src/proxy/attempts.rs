//! When to ask the data plane to take a connection over, and when to hold its
//! streams for it.
//!
//! ```text
//!   asking at quiet moments ── none for long ──▶ held, asking all the time ──▶ handed off
//!      ▲                            │              │
//!      └──────────────── busy: a long pause ───────┘ too long
//! ```
//! Not held at all over paths whose ends are too far away to fall silent in time.

use std::time::Duration;

use tokio::time::Instant;

use super::tunnel::Opening;
use crate::dataplane::Refusal;

/// The first pause between two attempts to hand off.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// The longest: an attempt costs some tens of microseconds, and what has not been
/// quiet in a hundred tries will not miss a second.
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// How long a quiet moment is waited for before the streams are held: most
/// connections have had several by then, and a hold delays a stream.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest that streams are held: they stand still for some of it.
const HOLD_MOST: Duration = Duration::from_millis(200);
/// Round trips that a hold takes at least where the path carries what it can: one until
/// the sender has stopped, and two until what was in the buffers and on the way is
/// acknowledged.
const HOLD_ROUND_TRIPS: u32 = 3;
/// Between attempts of a hold: acknowledgments take a moment to come, and the
/// streams wait.
const HOLD_PAUSE: Duration = Duration::from_millis(1);
/// Or this part of a round trip: over a long way much cannot change in a moment.
const HOLD_PAUSES: u32 = 16;
/// From one hold to the next, twice as long each time.
const REST_FIRST: Duration = Duration::from_secs(1);
/// The longest: what could not be handed off costs a hold a minute.
const REST_MOST: Duration = Duration::from_secs(60);

/// Attempts of one connection.
#[derive(Debug)]
pub(super) struct Attempts {
    /// `None`: not yet, or never again.
    next: Option<Instant>,
    opening: Opening,
    pause: Duration,
    /// Since when the streams are held.
    held: Option<Instant>,
    /// Not held before.
    hold_at: Instant,
    /// Between the ends, once it was needed.
    round_trip: Option<Duration>,
    rest: Duration,
    /// A hold has not helped.
    busy: bool,
}

/// What became of the wish to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Held from now on.
    Begun,
    /// Not before a round trip is over.
    Later,
    /// It would be over before it could help.
    InVain,
}

impl Attempts {
    pub(super) fn new(opening: Opening) -> Self {
        let now = Instant::now();
        Self {
            next: match opening {
                Opening::Answered => Some(now),
                Opening::Silent => None,
            },
            opening,
            pause: PAUSE_FIRST,
            held: None,
            hold_at: now + PATIENCE,
            round_trip: None,
            rest: REST_FIRST,
            busy: false,
        }
    }

    /// The client is being sent something, and will acknowledge it.
    pub(super) fn answered(&mut self) {
        if self.opening == Opening::Silent {
            *self = Self::new(Opening::Answered);
        }
    }

    /// Whether to ask now.
    pub(super) fn due(&self) -> bool {
        self.next.is_some_and(|next| next <= Instant::now())
    }

    /// Whether the streams are to be held from now on.
    pub(super) fn hold_due(&self) -> bool {
        self.waits_for_hold() && self.hold_at <= Instant::now()
    }

    /// Holds the streams, if it is time to and can help: `round_trip` is what lies
    /// between their ends.
    pub(super) fn hold(&mut self, round_trip: Duration) -> Hold {
        let now = Instant::now();
        if self.round_trip.replace(round_trip).is_none() {
            // What the client was sent first may not be acknowledged yet.
            self.hold_at = now + round_trip;
            return Hold::Later;
        }
        if round_trip * HOLD_ROUND_TRIPS > HOLD_MOST {
            // It costs nothing to look again: most of it may be queues.
            self.hold_at = now + REST_FIRST;
            self.busy = true;
            return Hold::InVain;
        }
        self.held = Some(now);
        self.next = Some(now);
        Hold::Begun
    }

    /// Whether the streams are held without hope.
    pub(super) fn hold_over(&self) -> bool {
        self.held
            .is_some_and(|since| self.next.is_none() || since.elapsed() >= HOLD_MOST)
    }

    /// The hold is over; how long it was, if there was one.
    pub(super) fn released(&mut self) -> Option<Duration> {
        let since = self.held.take()?;
        let now = Instant::now();
        self.hold_at = now + self.rest;
        self.rest = (self.rest * 2).min(REST_MOST);
        self.busy = true;
        Some(now - since)
    }

    /// Not now, for this reason; the reason to show.
    pub(super) fn later(&mut self, reason: Refusal) -> Refusal {
        let pause = match self.held {
            Some(_) => HOLD_PAUSE.max(self.round_trip.unwrap_or_default() / HOLD_PAUSES),
            None => self.pause,
        };
        if self.held.is_none() {
            self.pause = (self.pause * 2).min(PAUSE_MOST);
        }
        self.next = Some(Instant::now() + pause);
        match reason {
            Refusal::Pending if self.busy => Refusal::Busy,
            other => other,
        }
    }

    /// Never again.
    pub(super) fn stop(&mut self) {
        self.next = None;
        self.opening = Opening::Answered;
    }

    /// When there is something to do even if nothing comes; `quiet`: an attempt
    /// could be made.
    pub(super) fn wake_at(&self, quiet: bool) -> Option<Instant> {
        let attempt = self.next.filter(|_| quiet);
        let hold = match self.held {
            Some(since) => Some(since + HOLD_MOST),
            None => self.waits_for_hold().then_some(self.hold_at),
        };
        attempt.into_iter().chain(hold).min()
    }

    fn waits_for_hold(&self) -> bool {
        self.held.is_none() && self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round trip in a LAN.
    const NEAR: Duration = Duration::from_micros(200);

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Never quiet so far, for as long as a hold is put off over such a path.
    async fn waiting_for_hold(round_trip: Duration) -> Attempts {
        let mut attempts = Attempts::new(Opening::Answered);
        pass(PATIENCE).await;
        assert_eq!(attempts.hold(round_trip), Hold::Later);
        pass(round_trip).await;
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_a_hold_ends_them() {
        let mut attempts = Attempts::new(Opening::Answered);
        assert!(attempts.due());
        assert_eq!(attempts.later(Refusal::Pending), Refusal::Pending);
        assert!(!attempts.due());
        pass(PAUSE_FIRST).await;
        assert!(attempts.due() && !attempts.hold_due());
        pass(PATIENCE).await;
        assert!(attempts.hold_due());
        assert_eq!(attempts.hold(NEAR), Hold::Later);
        assert!(!attempts.hold_due());
        pass(NEAR).await;
        assert!(attempts.hold_due());
        assert_eq!(attempts.hold(NEAR), Hold::Begun);
        assert!(attempts.due() && !attempts.hold_due() && !attempts.hold_over());
        attempts.later(Refusal::Pending);
        assert_eq!(attempts.wake_at(true), Some(Instant::now() + HOLD_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_that_does_not_help_is_busy_and_comes_back_ever_more_rarely() {
        let mut attempts = waiting_for_hold(NEAR).await;
        for rest in [REST_FIRST, REST_FIRST * 2, REST_FIRST * 4] {
            assert!(attempts.hold_due());
            assert_eq!(attempts.hold(NEAR), Hold::Begun);
            pass(HOLD_MOST).await;
            assert!(attempts.hold_over());
            assert_eq!(attempts.released(), Some(HOLD_MOST));
            assert!(!attempts.hold_over());
            assert_eq!(attempts.later(Refusal::Pending), Refusal::Busy);
            assert_eq!(attempts.later(Refusal::Window), Refusal::Window);
            assert!(!attempts.hold_due());
            pass(rest).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_of_ends_too_far_away_are_never_held() {
        let far = HOLD_MOST / HOLD_ROUND_TRIPS + Duration::from_millis(1);
        let mut attempts = waiting_for_hold(far).await;
        for _ in 0..2 {
            assert!(attempts.hold_due());
            assert_eq!(attempts.hold(far), Hold::InVain);
            assert!(!attempts.hold_due() && !attempts.hold_over());
            assert_eq!(attempts.released(), None);
            assert_eq!(attempts.later(Refusal::Pending), Refusal::Busy);
            pass(REST_FIRST).await;
        }
        // The path is another one now.
        assert_eq!(attempts.hold(NEAR), Hold::Begun);
    }

    #[tokio::test(start_paused = true)]
    async fn over_a_long_way_less_is_asked() {
        let far = HOLD_PAUSE * HOLD_PAUSES * 4;
        let mut attempts = waiting_for_hold(far).await;
        assert_eq!(attempts.hold(far), Hold::Begun);
        attempts.later(Refusal::Pending);
        assert_eq!(
            attempts.wake_at(true),
            Some(Instant::now() + HOLD_PAUSE * 4)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_before_the_client_is_sent_something() {
        let mut attempts = Attempts::new(Opening::Silent);
        pass(PATIENCE * 2).await;
        assert!(!attempts.due() && !attempts.hold_due());
        attempts.answered();
        assert!(attempts.due() && !attempts.hold_due());
        attempts.stop();
        attempts.answered();
        assert!(!attempts.due(), "what is settled stays so");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_in_userspace_is_let_go_at_once() {
        let mut attempts = waiting_for_hold(NEAR).await;
        attempts.hold(NEAR);
        attempts.stop();
        assert!(attempts.hold_over());
        attempts.released();
        pass(REST_MOST * 2).await;
        assert!(!attempts.due() && !attempts.hold_due());
        assert_eq!(attempts.wake_at(true), None);
    }
}
