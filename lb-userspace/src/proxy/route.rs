//! Where a listener's requests go: its target group with its stickiness.

use std::sync::Arc;

#[cfg(test)]
use super::seal::Keyring;
use super::stickiness::Stickiness;
#[cfg(test)]
use crate::config::{Protocol, TargetGroup};
#[cfg(test)]
use crate::events::Events;
use crate::target::Group;

/// The default action of a listener.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) group: Arc<Group>,
    /// `None`: every request is balanced anew.
    pub(crate) stickiness: Option<Stickiness>,
}

#[cfg(test)]
impl Route {
    /// Of a plain listener to a sticky group, by the group's secrets.
    pub(super) fn sticky(group: &TargetGroup) -> Self {
        let stickiness = group.stickiness.as_ref().expect("stickiness");
        let keys = Keyring::new(&stickiness.secrets);
        Self {
            group: Arc::new(Group::new(group, Events::default())),
            stickiness: Some(Stickiness::new(stickiness, Protocol::Http, keys)),
        }
    }
}
