//! One target group: its settings, and the snapshot that requests read.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::health::{Failure, Health};
use super::ids::Ids;
use super::member::{State, Target};
use super::queue::Queue;
use super::said::Wanted;
use super::snapshot::Snapshot;
use super::warmth::Warmth;
use crate::config;
use crate::events::Events;
use crate::id;

/// Targets that serve the same thing.
#[derive(Debug)]
pub(crate) struct Group {
    /// Hash of the name: what the cookie and a flow say.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) config: config::TargetGroup,
    current: ArcSwap<Snapshot>,
    ids: Ids,
    queue: Arc<Queue>,
    /// Rings when there is another snapshot.
    changes: watch::Sender<()>,
    events: Events,
    /// Held while the next snapshot is made of the current one.
    changing: Mutex<()>,
}

impl Group {
    /// With the targets of the file.
    pub(crate) fn new(config: &config::TargetGroup, events: Events) -> Self {
        let queue = Arc::new(Queue::new(config.max_connections));
        let target = |target: &config::TargetConfig| {
            let target = Target::new(&config.name, target.address, target.weight);
            target.load().limit(&queue);
            Arc::new(target)
        };
        let targets = config.targets.iter().map(target).collect();
        Self {
            id: id::name_id(&config.name),
            name: config.name.clone(),
            config: config.clone(),
            current: ArcSwap::from_pointee(Snapshot::new(targets, config)),
            ids: Ids::new(config.stickiness.as_ref()),
            queue,
            changes: watch::Sender::new(()),
            events,
            changing: Mutex::new(()),
        }
    }

    /// The targets as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The ids that targets have answered with.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Those who wait for room at its targets.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Rings at every new snapshot from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Makes the group what it should be. Targets that stay keep what is known of
    /// them; the snapshot is left alone when nothing is different.
    pub(super) fn reconcile(&self, wanted: &[Wanted]) {
        self.change(|targets| {
            // Who comes to others that are at work is led up to it.
            let is_cold = targets.iter().any(|one| one.health == Health::Healthy);
            let known: HashMap<_, _> = targets.iter().map(|one| (one.address, one)).collect();
            let become_wanted =
                |one: &Wanted| self.become_wanted(known.get(&one.address).copied(), one, is_cold);
            wanted.iter().map(become_wanted).collect()
        });
    }

    /// Books the result of a health check.
    pub(super) fn checked(&self, target: &Target, result: Result<(), Failure>) {
        // The judge is held until its word is in the snapshot: words stay in order.
        let mut judge = target.judge();
        if let Some(health) = judge.checked(result, &self.config.health_check) {
            self.set_health(target, &health);
        }
    }

    /// A connect for a client failed.
    pub(crate) fn connect_failed(&self, target: &Target, kind: io::ErrorKind) {
        let Some(failure) = Failure::of_connect(kind) else {
            return;
        };
        target.note_failed_connect();
        let mut judge = target.judge();
        if let Some(health) = judge.connect_failed(failure, &self.config.health_check) {
            self.set_health(target, &health);
        }
    }

    fn set_health(&self, target: &Target, health: &Health) {
        let now = Instant::now();
        self.change(|targets| {
            let others_work = targets.iter().any(|one| {
                let is_other = !one.is_same_registration(target);
                is_other && one.health == Health::Healthy && one.warmth.is_warm(now)
            });
            let renew = |one: &Arc<Target>| {
                if !one.is_same_registration(target) {
                    return one.clone();
                }
                let health = health.clone();
                let slow_start = self.config.slow_start;
                let warmth = one.warmth.at(&health, others_work, slow_start, now);
                Arc::new(Target {
                    health,
                    warmth,
                    ..Target::clone(one)
                })
            };
            targets.iter().map(renew).collect()
        });
    }

    /// The one way to a new snapshot.
    fn change(&self, next: impl FnOnce(&[Arc<Target>]) -> Vec<Arc<Target>>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        let targets = next(current.targets());
        let same = targets.len() == current.targets().len()
            && targets
                .iter()
                .zip(current.targets())
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return;
        }
        let next = Arc::new(Snapshot::new(targets, &self.config));
        self.current.store(next.clone());
        self.changes.send_replace(());
        self.announce(&current, &next);
    }

    /// Says what is different, in the log and to those who listen for events.
    fn announce(&self, before: &Snapshot, after: &Snapshot) {
        for target in after.targets() {
            match before.find(target.id) {
                None => self.say(target, None),
                Some(known) if known.state() != target.state() => {
                    self.say(target, Some(known.state()));
                }
                Some(_) => {}
            }
        }
        for gone in before.targets() {
            if after.find(gone.id).is_none() {
                info!(
                    target_group = self.name,
                    target = gone.label,
                    "target has left"
                );
                self.tell(
                    gone,
                    Some(gone.state()),
                    "unused",
                    "not registered any more",
                );
            }
        }
        if after.fails_open() && !before.fails_open() {
            warn!(
                target_group = self.name,
                "all targets are unhealthy: all get requests"
            );
        }
    }

    fn say(&self, target: &Target, before: Option<State>) {
        let (state, reason) = (target.state().as_str(), target.reason());
        info!(
            target_group = self.name, target = target.label, state,
            before = before.map(State::as_str), weight = target.weight, %reason, "target"
        );
        self.tell(target, before, state, &reason);
    }

    fn tell(&self, target: &Target, before: Option<State>, state: &str, reason: &str) {
        let before = before.map(State::as_str);
        self.events.tell(
            "target",
            json!({
                "target_group": self.name, "target": target.label,
                "before": before, "state": state, "reason": reason,
            }),
        );
    }

    fn become_wanted(
        &self,
        known: Option<&Arc<Target>>,
        wanted: &Wanted,
        is_cold: bool,
    ) -> Arc<Target> {
        let base = match known {
            None => {
                let target = Target::new(&self.name, wanted.address, wanted.weight);
                target.load().limit(&self.queue);
                let warmth = match is_cold {
                    true => Warmth::Cold,
                    false => Warmth::Warm,
                };
                Target { warmth, ..target }
            }
            Some(known) if known.weight == wanted.weight && known.drain == wanted.drain => {
                return known.clone();
            }
            Some(known) => Target::clone(known),
        };
        Arc::new(Target {
            weight: wanted.weight,
            drain: wanted.drain,
            ..base
        })
    }
}
