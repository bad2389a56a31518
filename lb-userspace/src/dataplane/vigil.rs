//! Which targets are lost: nothing comes from them any more although what clients
//! send goes unanswered, or nobody can connect to them.
//!
//! Judged from walk to walk by sums over a target's flows, so it costs nothing in the
//! flows. Packets of one flow are enough to show that the target lives; what takes
//! flows away is deducted, so sums only grow by packets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_common::flow::{Flow, Side};
use lb_common::track::all_acknowledged;

use super::address;
use super::types::Loss;

/// How long it must last. A route that converges or a host that fails over takes
/// seconds; Linux sends seven retransmissions in this time (RFC 6298, from 200 ms).
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Packets of clients without any answer: the first may be a client's own last one,
/// repetitions are not.
const UNANSWERED: u64 = 3;
/// Connects that failed in a row.
const FAILED_CONNECTS: u32 = 2;

/// A target of a target group, the group by its label.
pub(super) type Whose = (u32, SocketAddr);

/// All targets that have flows.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    targets: HashMap<Whose, Watch>,
    /// Of the walk that is under way.
    sums: HashMap<Whose, Sums>,
}

/// What a walk adds up over a target's flows.
#[derive(Debug, Default)]
struct Sums {
    from_target: u64,
    from_clients: u64,
    /// Something of a client is not acknowledged.
    open: bool,
}

/// A target between two walks.
#[derive(Debug)]
struct Watch {
    /// Packets from it at the last walk, of the flows that are still there.
    from_target: u64,
    /// Packets of clients when it was last heard of, of the same flows.
    from_clients: u64,
    heard: Instant,
    /// Since when something of a client has been open without a pause.
    open: Option<Instant>,
    told: bool,
}

/// Connects to a target that have failed in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedConnects {
    pub(super) since: Instant,
    pub(super) count: u32,
}

impl Vigil {
    /// Begins a walk.
    pub(super) fn begin(&mut self) {
        self.sums.clear();
    }

    /// Adds a flow to the walk under way.
    pub(super) fn see(&mut self, flow: &Flow) {
        let sums = self.sums.entry(whose(flow)).or_default();
        let [from_client, from_target] = flow.packets;
        sums.from_clients += from_client;
        sums.from_target += from_target;
        sums.open |= !all_acknowledged(flow, Side::Client);
    }

    /// Deducts a flow that has left the table.
    pub(super) fn gone(&mut self, flow: &Flow) {
        if let Some(watch) = self.targets.get_mut(&whose(flow)) {
            let [from_client, from_target] = flow.packets;
            watch.from_target = watch.from_target.saturating_sub(from_target);
            watch.from_clients = watch.from_clients.saturating_sub(from_client);
        }
    }

    /// Ends a walk: the targets that are lost and were not before.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        failed: impl Fn(&SocketAddr) -> Option<FailedConnects>,
    ) -> Vec<(Whose, Loss)> {
        let sums = std::mem::take(&mut self.sums);
        self.targets.retain(|whose, _| sums.contains_key(whose));
        let mut lost = Vec::new();
        for (whose, sums) in sums {
            let watch = self
                .targets
                .entry(whose)
                .or_insert_with(|| Watch::new(&sums, now));
            if let Some(loss) = watch.next(&sums, now, failed(&whose.1)) {
                lost.push((whose, loss));
            }
        }
        lost
    }
}

impl Watch {
    fn new(sums: &Sums, now: Instant) -> Self {
        Self {
            from_target: sums.from_target,
            from_clients: sums.from_clients,
            heard: now,
            open: None,
            told: false,
        }
    }

    fn next(&mut self, sums: &Sums, now: Instant, failed: Option<FailedConnects>) -> Option<Loss> {
        if sums.from_target > self.from_target {
            *self = Self::new(sums, now);
            return None;
        }
        self.from_target = sums.from_target;
        self.open = match sums.open {
            true => Some(self.open.unwrap_or(now)),
            false => None,
        };
        let long = |since: Instant| now.duration_since(since) >= LOST_AFTER;
        let unanswered = sums.from_clients.saturating_sub(self.from_clients);
        let loss = if self.open.is_some_and(long) && unanswered >= UNANSWERED {
            Loss::Unanswered
        } else if failed.is_some_and(|one| one.count >= FAILED_CONNECTS && long(one.since))
            && long(self.heard)
        {
            Loss::Unreachable
        } else {
            return None;
        };
        (!std::mem::replace(&mut self.told, true)).then_some(loss)
    }
}

fn whose(flow: &Flow) -> Whose {
    (flow.target_group, address::peer(&flow.target))
}

#[cfg(test)]
mod tests {
    use lb_common::flow::Half;

    use super::*;

    const TARGET: &str = "10.0.0.2:80";

    /// A flow with so many packets from each side; `open` bytes not acknowledged.
    fn flow(packets: [u64; 2], open: u32) -> Flow {
        let local = "10.0.0.1:20000".parse().expect("an address");
        Flow {
            target: address::tuple(local, TARGET.parse().expect("an address")),
            packets,
            halves: [
                Half {
                    passed_end: open,
                    ..Half::default()
                },
                Half::default(),
            ],
            ..Flow::default()
        }
    }

    /// Walks ten seconds apart; after which of them the target is lost, and how.
    fn walks(
        flows: &[Vec<Flow>],
        failed: impl Fn(Instant) -> Option<FailedConnects>,
    ) -> Vec<(usize, Loss)> {
        let (mut vigil, start, mut lost) = (Vigil::default(), Instant::now(), Vec::new());
        for (number, flows) in flows.iter().enumerate() {
            flows.iter().for_each(|flow| vigil.see(flow));
            let now = start + Duration::from_secs(10) * number as u32;
            let found = vigil.judge(now, |_| failed(start));
            lost.extend(found.into_iter().map(|(_, loss)| (number, loss)));
        }
        lost
    }

    fn never(_: Instant) -> Option<FailedConnects> {
        None
    }

    #[test]
    fn repetitions_without_an_answer() {
        let silent = |sent| vec![flow([sent, 5], 100), flow([9, 9], 0)];
        let all = [10, 11, 13, 15, 16, 17, 18].map(silent);
        assert_eq!(walks(&all, never), [(3, Loss::Unanswered)], "told once");
    }

    #[test]
    fn one_packet_on_any_flow_is_life() {
        let some = |sent, heard| vec![flow([sent, 5], 100), flow([9, heard], 0)];
        let all: Vec<_> = (0..9).map(|n| some(10 + n, 9 + n / 2)).collect();
        assert_eq!(walks(&all, never), []);
    }

    #[test]
    fn silence_alone_is_no_loss() {
        let quiet = || vec![flow([10, 5], 0)];
        assert_eq!(walks(&[(); 9].map(|()| quiet()), never), []);
        // A client whose last packet was lost, and that has gone itself.
        let alone = || vec![flow([10, 5], 100)];
        assert_eq!(walks(&[(); 9].map(|()| alone()), never), []);
    }

    #[test]
    fn failed_connects_need_silence_and_time() {
        let quiet = || vec![flow([10, 5], 0)];
        let failed = |count| move |since| Some(FailedConnects { since, count });
        let all = [(); 6].map(|()| quiet());
        assert_eq!(walks(&all, failed(2)), [(3, Loss::Unreachable)]);
        assert_eq!(walks(&all, failed(1)), []);
        let heard: Vec<_> = (0..9).map(|n| vec![flow([10, 5 + n], 0)]).collect();
        assert_eq!(walks(&heard, failed(9)), []);
    }

    #[test]
    fn a_flow_that_leaves_is_no_sign_of_life() {
        let (mut vigil, now) = (Vigil::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let leaving = flow([50, 50], 0);
        vigil.see(&leaving);
        vigil.see(&flow([10, 5], 100));
        assert_eq!(vigil.judge(at(0), |_| None), []);
        vigil.gone(&leaving);
        for (walk, sent) in [(10, 12), (20, 14)] {
            vigil.see(&flow([sent, 5], 100));
            assert_eq!(vigil.judge(at(walk), |_| None), []);
        }
        vigil.see(&flow([15, 5], 100));
        assert_eq!(vigil.judge(at(30), |_| None).len(), 1);
    }
}
