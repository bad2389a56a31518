//! All target groups, and the changes that the admin API makes to them. A change
//! is written to `state_dir` first: what was answered with success survives.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tracing::info;

use super::answers::{Answers, Difference, NameStatus};
use super::group::Group;
use super::kept::Kept;
use super::member::Drain;
use super::said::{Said, Wanted};
use crate::config::Question;
use crate::state_dir;

/// What was said through the API, in `state_dir`.
const FILE: &str = "targets.json";
/// What it means that this file is damaged.
const LOST: &str = "what was said through the admin API is lost; the file's targets are used";

/// The groups, by name.
#[derive(Debug)]
pub(crate) struct Registry {
    groups: Vec<Arc<Group>>,
    state_dir: PathBuf,
    said: Mutex<Said>,
    /// Locked after `said`, by who needs both, and changed by who has both.
    answers: Mutex<Answers>,
    kept: Kept,
    /// Rings when a deadline may have come nearer.
    changed: Notify,
}

/// What is asked for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It shall be in the group and get requests; a weight that is not said stays.
    Register { weight: Option<u32> },
    /// It shall leave the group once the deregistration delay is over.
    Deregister,
    /// What is `None` stays.
    Adjust {
        draining: Option<bool>,
        weight: Option<u32>,
    },
}

/// A drain whose deadline has come: what is left of its sessions is to end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Over {
    pub(crate) target_group: String,
    pub(crate) target: SocketAddr,
    pub(crate) drain: Drain,
}

/// Why a change was not made.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("{0} is not a target of this group")]
    Unknown(SocketAddr),
    #[error("the change could not be kept in {}: {error}", file.display())]
    NotKept {
        file: PathBuf,
        error: std::io::Error,
    },
}

impl Registry {
    /// The groups with what was said of them before, and what their names answered last.
    /// A damaged file is set aside.
    pub(crate) fn open(state_dir: PathBuf, mut groups: Vec<Arc<Group>>) -> Self {
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        let said = state_dir::read(&state_dir.join(FILE), Said::parse, LOST);
        let (kept, mut answers) = Kept::open(&state_dir);
        answers.fit(groups.iter().map(|group| &group.config));
        let registry = Self {
            groups,
            state_dir,
            said: Mutex::new(said.unwrap_or_default()),
            answers: Mutex::new(answers),
            kept,
            changed: Notify::new(),
        };
        registry.settle(unix_now());
        registry
    }

    pub(crate) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The group of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Keeps a change and makes it. Waits for the disk.
    pub(crate) fn change(
        &self,
        group: &Group,
        address: SocketAddr,
        change: Change,
    ) -> Result<(), Refused> {
        self.change_at(group, address, change, unix_now())
    }

    fn change_at(
        &self,
        group: &Group,
        address: SocketAddr,
        change: Change,
        now: u64,
    ) -> Result<(), Refused> {
        let mut said = self.lock();
        let (listed, is_complete) = {
            let answers = self.answers();
            let is_complete = answers.is_complete(&group.config);
            (answers.listed(&group.config, now), is_complete)
        };
        let there = said.merge(&group.name, &listed, now);
        let registering = matches!(change, Change::Register { .. });
        if !registering && !there.iter().any(|one| one.address == address) {
            return Err(Refused::Unknown(address));
        }
        let mut next = said.clone();
        // A name that is still to answer may list what seems to be gone.
        if is_complete {
            next.forget_gone(&group.name, &listed, now);
        }
        let until = now.saturating_add(group.config.deregistration_delay.as_secs());
        apply(&mut next, group, address, change, until);
        self.keep(&next)?;
        group.reconcile(&next.merge(&group.name, &listed, now));
        *said = next;
        self.changed.notify_one();
        info!(target_group = group.name, target = %address, ?change, "told by the admin API");
        Ok(())
    }

    /// A name has answered: its targets are these, with these weights. Who left the
    /// answer is drained. Waits for the disk, where that is news.
    pub(super) fn answered(
        &self,
        group: &Group,
        question: &Question,
        targets: BTreeMap<SocketAddr, u32>,
    ) -> Difference {
        let now = unix_now();
        let until = now.saturating_add(group.config.deregistration_delay.as_secs());
        let said = self.lock();
        let mut next = self.answers().clone();
        let difference = next.answered(&group.name, question, targets, until);
        self.kept.keep(&next);
        *self.answers() = next;
        group.reconcile(&self.wanted(&said, group, now));
        self.changed.notify_one();
        difference
    }

    /// A name has not answered; whether the lookup before had not failed.
    pub(super) fn unanswered(&self, group: &Group, question: &Question, failure: String) -> bool {
        let _changing = self.lock();
        self.answers().failed(&group.name, question, failure)
    }

    /// The addresses that a name has.
    pub(super) fn known(&self, group: &Group, question: &Question) -> Vec<SocketAddr> {
        self.answers().known(&group.name, question)
    }

    /// Whether there is an answer of every name, if only one of an earlier daemon.
    pub(crate) fn knows_all_names(&self) -> bool {
        let answers = self.answers();
        let mut groups = self.groups.iter();
        groups.all(|group| answers.is_complete(&group.config))
    }

    /// How the names of a group are doing.
    pub(crate) fn names(&self, group: &Group) -> Vec<NameStatus> {
        self.answers().status(&group.config)
    }

    /// Lets targets leave whose deadline has come, and tells of each drain that is
    /// over, once; returns when nobody listens.
    pub(crate) async fn run(self: Arc<Self>, over: mpsc::Sender<Over>) {
        let mut told = HashSet::new();
        loop {
            let now = unix_now();
            let wait = self.settle(now);
            let due = self.over(now);
            for one in due.difference(&told) {
                if over.send(one.clone()).await.is_err() {
                    return;
                }
            }
            told = due;
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Makes every group what it should be now; answers how long that holds.
    fn settle(&self, now: u64) -> Option<Duration> {
        let said = self.lock();
        let mut next = None;
        for group in &self.groups {
            let wanted = self.wanted(&said, group, now);
            group.reconcile(&wanted);
            let deadlines = wanted.iter().filter_map(|one| one.drain);
            let coming = deadlines
                .map(|drain| drain.until)
                .filter(|until| *until > now);
            next = next.into_iter().chain(coming).min();
        }
        next.map(|until: u64| Duration::from_secs(until - now))
    }

    /// All drains whose deadline has come.
    fn over(&self, now: u64) -> HashSet<Over> {
        let said = self.lock();
        let of_group = |group: &Arc<Group>| {
            let name = group.name.clone();
            let left = self.answers().take_overdue(&name, now);
            // Not who has been registered by hand meanwhile.
            let wanted = self.wanted(&said, group, now);
            let stays = |address| wanted.iter().any(|one| one.address == address);
            let left = left.into_iter().filter(|(address, _)| !stays(*address));
            let overdue = said.overdue(&group.name, now).chain(left);
            overdue
                .map(|(target, drain)| Over {
                    target_group: name.clone(),
                    target,
                    drain,
                })
                .collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// What the targets of a group should be.
    fn wanted(&self, said: &Said, group: &Group, now: u64) -> Vec<Wanted> {
        let listed = self.answers().listed(&group.config, now);
        said.merge(&group.name, &listed, now)
    }

    fn keep(&self, said: &Said) -> Result<(), Refused> {
        let bytes = said.to_bytes().map_err(std::io::Error::other);
        bytes
            .and_then(|bytes| state_dir::replace(&self.state_dir, FILE, &bytes))
            .map_err(|error| Refused::NotKept {
                file: self.state_dir.join(FILE),
                error,
            })
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(said: &mut Said, group: &Group, address: SocketAddr, change: Change, until: u64) {
    let entry = said.entry(&group.name, address);
    match change {
        Change::Register { weight } => {
            entry.registered = true;
            entry.weight = weight.or(entry.weight);
            entry.drain = None;
        }
        Change::Deregister => {
            // Told twice, the first deadline holds.
            let until = entry.drain.map_or(until, |drain| drain.until.min(until));
            entry.drain = Some(Drain { until, leave: true });
        }
        Change::Adjust { draining, weight } => {
            entry.weight = weight.or(entry.weight);
            let leave = false;
            match draining {
                Some(true) => entry.drain = entry.drain.or(Some(Drain { until, leave })),
                Some(false) => entry.drain = None,
                None => {}
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
