//! Checks every target of a group at its interval, one check of a target at a
//! time: a slow target delays its own next check and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::check::check;
use super::failure::Failure;
use crate::metrics::Metrics;
use crate::target::{Group, Target};

/// Held by a checker until its target has been checked once.
type FirstCheck = mpsc::Sender<std::convert::Infallible>;

/// Starts checking; what is returned ends when every target has been checked once.
pub(crate) fn start(
    groups: &[Arc<Group>],
    metrics: &Arc<Metrics>,
) -> impl Future<Output = ()> + use<> {
    let (first, mut checked) = mpsc::channel(1);
    for group in groups {
        let keeper = Keeper {
            group: group.clone(),
            metrics: metrics.clone(),
            checkers: HashMap::new(),
        };
        tokio::spawn(keeper.run(first.clone()));
    }
    drop(first);
    async move {
        checked.recv().await;
    }
}

/// Keeps one checker for each target of a group.
struct Keeper {
    group: Arc<Group>,
    metrics: Arc<Metrics>,
    checkers: HashMap<u64, (Arc<Target>, JoinHandle<()>)>,
}

impl Keeper {
    async fn run(mut self, first: FirstCheck) {
        let mut changes = self.group.changes();
        let mut first = Some(first);
        loop {
            self.adjust(first.take().as_ref());
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn adjust(&mut self, first: Option<&FirstCheck>) {
        let snapshot = self.group.snapshot();
        self.checkers.retain(|id, (checked, checker)| {
            let found = snapshot.find(*id);
            let stays = found.is_some_and(|target| target.is_same_registration(checked));
            if !stays {
                checker.abort();
            }
            stays
        });
        for target in snapshot.targets() {
            self.checkers.entry(target.id).or_insert_with(|| {
                let (group, metrics) = (self.group.clone(), self.metrics.clone());
                let checks = keep_checking(group, target.clone(), metrics, first.cloned());
                (target.clone(), tokio::spawn(checks))
            });
        }
    }
}

async fn keep_checking(
    group: Arc<Group>,
    target: Arc<Target>,
    metrics: Arc<Metrics>,
    mut first: Option<FirstCheck>,
) {
    let config = &group.config.health_check;
    let (proxy_protocol, protocol) = (group.config.proxy_protocol, &group.config.protocol);
    let check = || check(target.address, config, proxy_protocol, protocol);
    let book = |result: Result<(), Failure>| {
        let word = result.as_ref().map_or_else(Failure::result, |()| "success");
        metrics.health_checked(word);
        group.checked(&target, result);
        first = None;
    };
    // No randomness only makes checks come in step.
    let random = || getrandom::u64().unwrap_or_default();
    repeat(config.interval, config.timeout, check, random, book).await;
}

/// Checks and books for ever. The first pause is any part of the interval, so that
/// the checks of targets that came together spread over it.
async fn repeat<Check: Future<Output = Result<(), Failure>>>(
    interval: Duration,
    limit: Duration,
    check: impl Fn() -> Check,
    random: impl Fn() -> u64,
    mut book: impl FnMut(Result<(), Failure>),
) {
    let mut pause = interval.mul_f64(fraction(random()));
    loop {
        let result = timeout(limit, check()).await;
        book(result.unwrap_or(Err(Failure::Timeout(limit))));
        sleep(pause).await;
        pause = jittered(interval, random());
    }
}

/// Within a tenth of the interval.
fn jittered(interval: Duration, random: u64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fraction(random))
}

/// From any number to one between 0 and 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
