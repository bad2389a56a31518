//! One target group: its settings, and the snapshot that requests read.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tracing::info;

use super::member::Target;
use super::said::Wanted;
use super::snapshot::Snapshot;
use crate::config;
use crate::id;

/// Targets that serve the same thing.
#[derive(Debug)]
pub(crate) struct Group {
    /// Hash of the name: what the cookie and a flow say.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) config: config::TargetGroup,
    current: ArcSwap<Snapshot>,
    /// Held while the next snapshot is made of the current one.
    changing: Mutex<()>,
}

impl Group {
    /// With the targets of the file.
    pub(crate) fn new(config: &config::TargetGroup) -> Self {
        let target = |target: &config::TargetConfig| {
            Arc::new(Target::new(&config.name, target.address, target.weight))
        };
        let targets = config.targets.iter().map(target).collect();
        Self {
            id: id::name_id(&config.name),
            name: config.name.clone(),
            config: config.clone(),
            current: ArcSwap::from_pointee(Snapshot::new(targets)),
            changing: Mutex::new(()),
        }
    }

    /// The targets as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes the group what it should be. Targets that stay keep what is known of
    /// them; the snapshot is left alone when nothing is different.
    pub(super) fn reconcile(&self, wanted: &[Wanted]) {
        self.change(|targets| {
            wanted
                .iter()
                .map(|one| {
                    let known = targets.iter().find(|known| known.address == one.address);
                    self.become_wanted(known, one)
                })
                .collect()
        });
    }

    /// The one way to a new snapshot.
    fn change(&self, next: impl FnOnce(&[Arc<Target>]) -> Vec<Arc<Target>>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        let targets = next(current.targets());
        for gone in current.targets() {
            if !targets.iter().any(|target| target.id == gone.id) {
                info!(
                    target_group = self.name,
                    target = gone.label,
                    "target removed"
                );
            }
        }
        if targets != current.targets() {
            self.current.store(Arc::new(Snapshot::new(targets)));
        }
    }

    fn become_wanted(&self, known: Option<&Arc<Target>>, wanted: &Wanted) -> Arc<Target> {
        let base = known.map_or_else(
            || Target::new(&self.name, wanted.address, wanted.weight),
            |known| Target::clone(known),
        );
        let target = Target {
            weight: wanted.weight,
            drain: wanted.drain,
            ..base
        };
        match known {
            Some(known) if **known == target => return known.clone(),
            None => info!(
                target_group = self.name,
                target = target.label,
                "target added"
            ),
            Some(_) => info!(
                target_group = self.name,
                target = target.label,
                weight = target.weight,
                state = target.state().as_str(),
                reason = target.reason(),
                "target changed"
            ),
        }
        Arc::new(target)
    }
}
