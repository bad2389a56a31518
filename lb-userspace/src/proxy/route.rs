//! Where a listener's requests go: its target group with its stickiness.

use std::sync::Arc;

use super::stickiness::Stickiness;
use crate::target::Group;

/// The default action of a listener.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) group: Arc<Group>,
    /// `None`: every request is balanced anew.
    pub(crate) stickiness: Option<Stickiness>,
}
