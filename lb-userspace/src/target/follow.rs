//! Follows the names of targets by the TTL of their answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::answers::Difference;
use super::group::Group;
use super::registry::Registry;
use super::resolver::{Answer, Resolver, Unanswered};
use crate::config::TargetName;
use crate::events::Events;
use crate::metrics::Metrics;

/// An answer is asked for again after its TTL, but not more often than this.
const TTL_MIN: Duration = Duration::from_secs(1);
/// And not less often: some answers are for a week, and `/etc/hosts` for ever.
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// What following takes.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) registry: Arc<Registry>,
    pub(crate) resolver: Resolver,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
}

impl Follower {
    /// Starts; what is returned ends when every name has been asked for once.
    pub(crate) fn start(self) -> impl Future<Output = ()> + use<> {
        let (first, mut asked) = mpsc::channel(1);
        for group in self.registry.groups() {
            for name in &group.config.names {
                let (group, name) = (group.clone(), name.clone());
                tokio::spawn(self.clone().keep_asking(group, name, first.clone()));
            }
        }
        async move {
            // Dropped by each when it has an answer, or none.
            drop(first);
            asked.recv().await;
        }
    }

    async fn keep_asking(
        self,
        group: Arc<Group>,
        name: TargetName,
        first: mpsc::Sender<Infallible>,
    ) {
        let mut first = Some(first);
        loop {
            let known = self.registry.known(&group, &name.question);
            let pause = match self.resolver.ask(&name, &known).await {
                Ok(answer) => self.answered(&group, &name, answer).await,
                Err(failure) => self.failed(&group, &name, &failure),
            };
            first.take();
            sleep(pause).await;
        }
    }

    /// Until when to wait.
    async fn answered(&self, group: &Arc<Group>, name: &TargetName, answer: Answer) -> Duration {
        let asked = name.question.to_string();
        let Some(difference) = self.book(group, name, answer.targets).await else {
            return AGAIN;
        };
        self.metrics.name_asked(&group.name, &asked, "answered");
        debug!(target_group = group.name, name = asked, ttl = ?answer.ttl, "answered");
        if difference.is_news() {
            let (come, gone) = (texts(&difference.come), texts(&difference.gone));
            info!(
                target_group = group.name,
                name = asked,
                ?come,
                ?gone,
                "another answer of DNS"
            );
            self.events.tell(
                "dns",
                json!({
                    "target_group": group.name, "name": asked,
                    "come": come, "gone": gone, "failure": null,
                }),
            );
        }
        answer.ttl.clamp(TTL_MIN, TTL_MAX)
    }

    /// Waits for the disk elsewhere; `None`: that could not be done.
    async fn book(
        &self,
        group: &Arc<Group>,
        name: &TargetName,
        targets: BTreeMap<SocketAddr, u32>,
    ) -> Option<Difference> {
        let (registry, group, question) =
            (self.registry.clone(), group.clone(), name.question.clone());
        let booked =
            tokio::task::spawn_blocking(move || registry.answered(&group, &question, targets));
        booked
            .await
            .inspect_err(|error| error!(%error, "an answer of DNS could not be booked"))
            .ok()
    }

    /// Said once, until there is an answer again.
    fn failed(&self, group: &Group, name: &TargetName, failure: &Unanswered) -> Duration {
        let (asked, failure) = (name.question.to_string(), failure.to_string());
        self.metrics.name_asked(&group.name, &asked, "failed");
        let is_news = self
            .registry
            .unanswered(group, &name.question, failure.clone());
        if is_news {
            warn!(
                target_group = group.name,
                name = asked,
                failure,
                "no answer of DNS: the targets of its last answer are kept"
            );
            self.events.tell(
                "dns",
                json!({
                    "target_group": group.name, "name": asked,
                    "come": [], "gone": [], "failure": failure,
                }),
            );
        }
        AGAIN
    }
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
