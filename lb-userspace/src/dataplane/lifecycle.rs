//! From the last packet of a flow to its deletion: one thread, one place.
//!
//! The program only marks flows and sends hints; this thread decides, books the
//! end and deletes. A walk over the table finds what hints missed, and what has
//! been idle for too long.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use lb_common::event::Event as Hint;
use lb_common::flow::{Flow, FlowKey};
use lb_common::track::over;
use lb_common::word;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use super::active::{Active, Order};
use super::ports::{REST_BRIEF, REST_TIME_WAIT};
use super::table::{Entry, monotonic};
use super::types::{EndCause, Event, FlowHandle};
use super::{reset, unix_seconds};

/// How often closing flows are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Longest time between two walks over the table.
const WALK: Duration = Duration::from_secs(10);
/// An entry closed in order stays for retransmissions of the last FIN: five
/// doublings of the least retransmission timeout of 200 ms.
const LINGER_CLOSED: Duration = Duration::from_secs(5);
/// How long a last FIN may stay without any progress toward its acknowledgment: what
/// Linux gives a closed socket that nobody answers (tcp_orphan_retries, about 100 s).
const LAST_ACK: Duration = Duration::from_secs(120);
/// After a reset only packets already under way are expected.
const LINGER_RESET: Duration = Duration::from_secs(1);

/// Runs until the daemon's end of `events` is closed.
pub(super) fn run(active: Arc<Active>, hints: RingBuf<MapData>, events: mpsc::Sender<Event>) {
    let mut keeper = Keeper {
        active,
        events,
        closing: HashMap::new(),
        walk: Walk::Rests(None),
    };
    let mut hints = hints;
    while !keeper.events.is_closed() {
        wait(&hints, keeper.walk.pause());
        while let Some(item) = hints.next() {
            if let Some(hint) = Hint::from_bytes(&item) {
                keeper.hinted(&hint);
            }
        }
        keeper.obey();
        keeper.walk();
        keeper.settle();
        keeper.active.look_after_interfaces();
    }
}

fn wait(hints: &RingBuf<MapData>, pause: Duration) {
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::NONE);
    let mut fds = [PollFd::new(hints.as_fd(), PollFlags::POLLIN)];
    // An interrupted wait is as good as one that timed out.
    let _ = poll(&mut fds, timeout);
}

struct Keeper {
    active: Arc<Active>,
    events: mpsc::Sender<Event>,
    closing: HashMap<FlowKey, Closing>,
    walk: Walk,
}

/// A walk over the table, one batch at a time so that hints need not wait for it.
enum Walk {
    /// Until it is time for the next; since when.
    Rests(Option<Instant>),
    /// At this bucket.
    Under(u32),
}

impl Walk {
    /// How long the thread may sleep.
    fn pause(&self) -> Duration {
        match self {
            Self::Rests(_) => TICK,
            Self::Under(_) => Duration::ZERO,
        }
    }
}

/// A flow on its way out.
struct Closing {
    id: u64,
    /// Where both sides' acknowledgments stood, and since when.
    stood: ([u32; 2], Instant),
    /// Set once the end is certain: why, and when the entry may go.
    ended: Option<(EndCause, Instant)>,
}

impl Keeper {
    /// Half of a flow may stay closed for hours: nothing to be done then.
    fn hinted(&mut self, hint: &Hint) {
        if word::finishing(hint.word) || hint.word & word::REUSED != 0 {
            self.begin(hint.client, hint.id);
        }
    }

    fn begin(&mut self, client: FlowKey, id: u64) -> &mut Closing {
        let fresh = || Closing {
            id,
            stood: ([0; 2], Instant::now()),
            ended: None,
        };
        let closing = self.closing.entry(client).or_insert_with(fresh);
        if closing.id != id {
            *closing = fresh();
        }
        closing
    }

    /// Does what others have ordered.
    fn obey(&mut self) {
        for order in self.active.take_orders() {
            match order {
                Order::End(FlowHandle { client, id }, cause) => {
                    let found = self.active.read(&client).ok().flatten();
                    let Some(flow) = found.filter(|flow| flow.id == id) else {
                        continue;
                    };
                    let entry = Entry { client, flow };
                    if entry.committed() && flow.word & (word::ENDED | word::REUSED) == 0 {
                        self.end(&entry, cause);
                    }
                }
                Order::Book(entry) => {
                    let end = self.closing.remove(&entry.client);
                    let known = end.filter(|end| end.id == entry.flow.id);
                    let cause = known.and_then(|end| end.ended).map(|(cause, _)| cause);
                    let cause = cause.unwrap_or_else(|| cause_of(&entry.flow));
                    book(&self.active, &self.events, &entry, cause);
                }
            }
        }
    }

    /// Looks at some of the flows: every now and then, at all of them.
    fn walk(&mut self) {
        let bucket = match self.walk {
            Walk::Under(bucket) => bucket,
            Walk::Rests(since) => {
                let pause = WALK.min(self.active.shortest_idle() / 4).max(TICK);
                if since.is_some_and(|since| since.elapsed() < pause) {
                    return;
                }
                0
            }
        };
        self.walk = match self.active.reader().batch(bucket) {
            Ok((entries, next)) => {
                let now = monotonic();
                entries.iter().for_each(|entry| self.look(entry, now));
                next.map_or_else(|| Walk::Rests(Some(Instant::now())), Walk::Under)
            }
            Err(error) => {
                tracing::error!(%error, "the flow table could not be read");
                Walk::Rests(Some(Instant::now()))
            }
        };
    }

    fn look(&mut self, entry: &Entry, now: Duration) {
        let (client, Flow { id, word, .. }) = (entry.client, entry.flow);
        if !entry.committed() {
            return;
        }
        if word & word::REUSED != 0 || word::finishing(word) {
            self.begin(client, id);
        } else if word & word::ENDED != 0 {
            // An earlier daemon has ended it and not booked it.
            if self.closing.get(&client).is_none_or(|one| one.id != id) {
                self.end(entry, EndCause::Reset);
            }
        } else if entry.idle(now) > self.active.idle_timeout(entry.flow.listener) {
            self.end(entry, EndCause::Idle);
        }
    }

    /// Ends a live flow: from now on its packets are dropped, both ends are reset.
    fn end(&mut self, entry: &Entry, cause: EndCause) {
        cut(&self.active, entry);
        let closing = self.begin(entry.client, entry.flow.id);
        closing
            .ended
            .get_or_insert((cause, Instant::now() + LINGER_RESET));
    }

    /// Moves closing flows on; deletes those that have lingered.
    fn settle(&mut self) {
        let (now, active, events) = (Instant::now(), &self.active, &self.events);
        self.closing.retain(|client, closing| {
            let flow = match active.read(client) {
                Ok(Some(flow)) if flow.id == closing.id => flow,
                Ok(_) => return false,
                Err(error) => {
                    tracing::error!(%error, "the flow table could not be read");
                    return true;
                }
            };
            let Some(cause) = closing.due(&flow, now) else {
                return true;
            };
            let entry = Entry {
                client: *client,
                flow,
            };
            if active.forget(&entry) {
                book(active, events, &entry, cause);
            }
            false
        });
    }
}

impl Closing {
    /// Why the flow has ended, once its entry may go.
    fn due(&mut self, flow: &Flow, now: Instant) -> Option<EndCause> {
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
fn cause_of(flow: &Flow) -> EndCause {
    let resets = word::RST | word::RST << word::TARGET_SHIFT | word::ENDED;
    match flow.word & resets {
        0 => EndCause::Closed,
        _ => EndCause::Reset,
    }
}

/// Books the end of a flow that is out of the table, lets its port rest.
fn book(active: &Active, events: &mpsc::Sender<Event>, entry: &Entry, cause: EndCause) {
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

/// Takes over what an earlier daemon left: whole committed flows live on, all
/// others are ended or deleted. Returns how many were adopted.
pub(super) fn adopt(active: &Active) -> io::Result<usize> {
    let mut adopted = 0;
    active.reader().each(|entry| {
        active.found(&entry);
        let target = super::address::target_key(&entry.client, &entry.flow.target);
        let whole = active.reader().client_of(&target) == Some(entry.client);
        if entry.committed() && whole {
            active.adopt(&entry);
            adopted += 1;
        } else {
            give_up(active, &entry);
        }
    })?;
    drop_dangling(active)?;
    Ok(adopted)
}

/// The sockets of an observing flow died with the daemon; half a flow cannot go on.
fn give_up(active: &Active, entry: &Entry) {
    if entry.committed() {
        cut(active, entry);
    }
    active.forget(entry);
}

/// Marks a flow ended, so that its packets are dropped and the guard lets the
/// resets pass, and resets both ends.
fn cut(active: &Active, entry: &Entry) {
    let result = active
        .end(entry)
        .and_then(|()| reset::both_ends(&entry.client, &entry.flow));
    if let Err(error) = result {
        tracing::warn!(%error, id = entry.flow.id, "a reset could not be sent");
    }
}

fn drop_dangling(active: &Active) -> io::Result<()> {
    active.reader().each_index(|target, client| {
        let dangling = !matches!(active.read(&client), Ok(Some(_)));
        if dangling && let Err(error) = active.forget_index(&target) {
            tracing::error!(%error, "an index entry could not be deleted");
        }
    })
}
