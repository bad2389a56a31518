//! `source_ip`: an address belongs to a target by Maglev's table of all that have a
//! weight. Nothing is remembered, so balancers with the same targets agree, and who
//! comes back after a failure has its addresses again.

use super::{Asked, Claim, Verdict};
use crate::target::State;

pub(super) fn read(asked: Asked<'_>) -> Claim {
    let Some(own) = asked.targets.owner_of(asked.source) else {
        return Claim::default();
    };
    // Registered a moment ago: its addresses are still with the others.
    if own.state() == State::Initial && !asked.targets.takes_new(own) {
        return Claim {
            verdict: Verdict::Down,
            ..Claim::default()
        };
    }
    Claim {
        verdict: Verdict::Valid,
        target: Some(own.id),
        ..Claim::default()
    }
}
