//! Target groups as they are running: each an immutable snapshot of its targets,
//! swapped whole, and what the admin API may change of it.
//!
//! ```text
//! file's targets ─┐
//! DNS (follow) ───┤
//!                 ├─ said::merge ─▶ Group::reconcile ─▶ Snapshot ─▶ requests
//! said by the API ┘   (registry)                 ▲
//!                                 health ────────┘
//! ```

mod answers;
mod follow;
mod group;
mod health;
mod ids;
mod kept;
mod load;
mod member;
mod queue;
mod registry;
mod resolver;
mod said;
mod snapshot;
mod warmth;

pub(crate) use answers::NameStatus;
pub(crate) use follow::Follower;
pub(crate) use group::Group;
pub(crate) use health::{Health, start as start_checks};
pub(crate) use ids::Known;
pub(crate) use load::InFlight;
pub(crate) use member::{State, Target};
pub(crate) use queue::Ended;
pub(crate) use registry::{Change, Over, Refused, Registry};
pub(crate) use resolver::Resolver;
pub(crate) use snapshot::Snapshot;
