//! The target groups: from the file, with what was said of them, their targets' names followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::config::{Config, Listener, Secret};
use crate::events::Events;
use crate::proxy::{Groups, Shared};
use crate::state_dir;
use crate::target::{Follower, Group, Registry, Resolver};

/// The start waits for one answer of DNS to each name, but not for a resolver that is away.
const FIRST_ANSWERS: Duration = Duration::from_secs(10);
/// The same where all names have answers of the last run: they will do.
const FRESH_ANSWERS: Duration = Duration::from_secs(2);

pub(super) fn routes(config: &Config, events: &Events) -> anyhow::Result<Groups> {
    let mut groups = Groups::new();
    for group in &config.target_groups {
        let mut stickiness = group.stickiness.clone();
        if let Some(stickiness) = stickiness.as_mut().filter(|one| one.secrets.is_empty()) {
            stickiness
                .secrets
                .push(state_dir::cookie_key(&config.state_dir)?);
        }
        groups.insert(
            group.name.clone(),
            (Arc::new(Group::new(group, events.clone())), stickiness),
        );
    }
    Ok(groups)
}

/// What seals the cookies of divisions among groups that have no secrets.
pub(super) fn secrets(config: &Config) -> anyhow::Result<Vec<Secret>> {
    if config.listeners.iter().any(Listener::keeps_groups) {
        return Ok(vec![state_dir::cookie_key(&config.state_dir)?]);
    }
    Ok(Vec::new())
}

/// The groups with what was said of them through the admin API.
pub(super) fn registry(config: &Config, groups: &Groups) -> Registry {
    let groups = groups.values().map(|(group, _)| group.clone()).collect();
    Registry::open(config.state_dir.clone(), groups)
}

/// Before the first checks, so that readiness waits for those of named targets too.
pub(super) async fn follow_names(
    config: &Config,
    registry: &Arc<Registry>,
    events: &Events,
    shared: &Shared,
) {
    let follower = Follower {
        registry: registry.clone(),
        resolver: Resolver::new(&config.resolver),
        events: events.clone(),
        metrics: shared.metrics.clone(),
    };
    let patience = match registry.knows_all_names() {
        true => FRESH_ANSWERS,
        false => FIRST_ANSWERS,
    };
    if timeout(patience, follower.start()).await.is_err() {
        warn!("started before every name of a target had an answer");
    }
}
