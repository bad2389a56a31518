//! From the last packet of a flow to its deletion: one thread, one place.
//!
//! The program only marks flows and sends hints; this thread decides, books the
//! end and deletes. A walk over the table finds what hints missed, and what has
//! been idle for too long.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use lb_common::event::Event as Hint;
use lb_common::flow::{Flow, FlowKey};
use lb_common::word;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use super::active::{Active, Order};
use super::adopt::cut;
use super::closing::{Closing, book, cause_of};
use super::table::{Entry, monotonic};
use super::types::{EndCause, Event, FlowHandle};
use super::vigil::Vigil;

/// How often closing flows are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Longest time between two walks over the table.
const WALK: Duration = Duration::from_secs(10);
/// Percent of the table at which it is said that it fills up, and below which that
/// may be said again.
const CROWDED: u64 = 80;
const ROOMY: u64 = 70;
/// Runs until the daemon's end of `events` is closed.
pub(super) fn run(active: Arc<Active>, hints: RingBuf<MapData>, events: mpsc::Sender<Event>) {
    let mut keeper = Keeper {
        active,
        events,
        closing: HashMap::new(),
        walk: Walk::Rests(None),
        vigil: Vigil::default(),
        crowded: false,
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
    vigil: Vigil,
    /// The table is fuller than it should be, and that was said.
    crowded: bool,
}

/// A walk over the table, one batch at a time so that hints need not wait for it.
enum Walk {
    /// Until it is time for the next; since when.
    Rests(Option<Instant>),
    Under(Step),
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
struct Step {
    bucket: u32,
    entries: usize,
    began: Instant,
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

impl Keeper {
    /// Half of a flow may stay closed for hours: nothing to be done then.
    fn hinted(&mut self, hint: &Hint) {
        if word::finishing(hint.word) || hint.word & word::REUSED != 0 {
            self.begin(hint.client, hint.id);
        }
    }

    fn begin(&mut self, client: FlowKey, id: u64) -> &mut Closing {
        let closing = self
            .closing
            .entry(client)
            .or_insert_with(|| Closing::new(id));
        if closing.id() != id {
            *closing = Closing::new(id);
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
                    let known = end.filter(|end| end.id() == entry.flow.id);
                    let cause = known.and_then(|end| end.cause());
                    let cause = cause.unwrap_or_else(|| cause_of(&entry.flow));
                    self.vigil.gone(&entry.flow);
                    book(&self.active, &self.events, &entry, cause);
                }
            }
        }
    }

    /// Looks at some of the flows: every now and then, at all of them.
    fn walk(&mut self) {
        let step = match self.walk {
            Walk::Under(step) => step,
            Walk::Rests(since) => {
                let pause = WALK.min(self.active.shortest_idle() / 4).max(TICK);
                if since.is_some_and(|since| since.elapsed() < pause) {
                    return;
                }
                self.vigil.begin();
                Step {
                    bucket: 0,
                    entries: 0,
                    began: Instant::now(),
                }
            }
        };
        self.walk = match self.active.reader().batch(step.bucket) {
            Ok((batch, next)) => {
                let now = monotonic();
                batch.iter().for_each(|entry| self.look(entry, now));
                let entries = step.entries + batch.len();
                match next {
                    Some(bucket) => Walk::Under(Step {
                        bucket,
                        entries,
                        ..step
                    }),
                    None => self.walked(entries, step.began),
                }
            }
            Err(error) => {
                tracing::error!(%error, "the flow table could not be read");
                Walk::Rests(Some(Instant::now()))
            }
        };
    }

    /// What can be told only when all flows were looked at.
    fn walked(&mut self, entries: usize, began: Instant) -> Walk {
        let (now, active) = (Instant::now(), &self.active);
        tracing::debug!(entries, took = ?now - began, "flow table walked");
        let lost = self
            .vigil
            .judge(now, |target| active.failed_connects(target));
        for ((target_group, target), loss) in lost {
            let event = Event::TargetLost {
                target_group,
                target,
                loss,
            };
            // Closed: the daemon is going.
            let _ = self.events.blocking_send(event);
        }
        self.say_if_crowded();
        Walk::Rests(Some(now))
    }

    /// Said once, before there is no room left and connections stay in userspace.
    fn say_if_crowded(&mut self) {
        let (entries, capacity) = (self.active.entries(), self.active.capacity);
        if !self.crowded && entries * 100 >= capacity * CROWDED {
            self.crowded = true;
            tracing::warn!(
                entries,
                capacity,
                "the flow table is nearly full: raise fastpath.max_flows"
            );
        } else if entries * 100 < capacity * ROOMY {
            self.crowded = false;
        }
    }

    fn look(&mut self, entry: &Entry, now: Duration) {
        let (client, Flow { id, word, .. }) = (entry.client, entry.flow);
        if !entry.committed() {
            return;
        }
        self.vigil.see(&entry.flow);
        if word & word::REUSED != 0 || word::finishing(word) {
            self.begin(client, id);
        } else if word & word::ENDED != 0 {
            // An earlier daemon has ended it and not booked it.
            if self.closing.get(&client).is_none_or(|one| one.id() != id) {
                self.end(entry, EndCause::Reset);
            }
        } else if entry.idle(now) > self.active.idle_timeout(entry.flow.listener) {
            self.end(entry, EndCause::Idle);
        }
    }

    /// Ends a live flow: from now on its packets are dropped, both ends are reset.
    fn end(&mut self, entry: &Entry, cause: EndCause) {
        cut(&self.active, entry);
        self.begin(entry.client, entry.flow.id).end(cause);
    }

    /// Moves closing flows on; deletes those that have lingered.
    fn settle(&mut self) {
        let (now, active, events) = (Instant::now(), &self.active, &self.events);
        let vigil = &mut self.vigil;
        self.closing.retain(|client, closing| {
            let flow = match active.read(client) {
                Ok(Some(flow)) if flow.id == closing.id() => flow,
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
                vigil.gone(&entry.flow);
                book(active, events, &entry, cause);
            }
            false
        });
    }
}
