//! A model of the handoff, searched exhaustively: two endpoints that talk at once,
//! lose, repeat and overtake each other's packets, while the balancer relays, holds
//! the streams or not, and tries to hand the connection over, one atomic step at a time.
//!
//! Proves, within its bounds, that no byte is lost, doubled or taken for another,
//! and that from every state in which the daemon has not died too early all bytes
//! can still arrive. And proves that it would notice: each rule of the handoff is
//! broken on purpose, and the search must find the harm.

mod endpoint;
mod explore;
mod hop;
mod program;
mod system;

use explore::{Harm, explore};
use system::{Rules, System};

#[test]
fn the_handoff_harms_nothing() {
    let searched = explore(Rules::KEPT).unwrap_or_else(|harm| panic!("{harm}"));
    // A model that never commits would prove nothing.
    assert!(searched.visited > 100_000, "{searched:?}");
    assert!(searched.committed > 1_000, "{searched:?}");
    assert!(searched.held > 100, "{searched:?}");
    assert!(searched.finished > 0, "{searched:?}");
    assert!(searched.killed > 1_000, "{searched:?}");
}

#[test]
fn a_flip_without_comparing_loses_bytes() {
    let harm = found(Rules {
        swap_compares: false,
        ..Rules::KEPT
    });
    assert!(matches!(harm, Harm::Stuck(_) | Harm::Wrong(_)), "{harm}");
}

#[test]
fn without_the_record_of_what_passed_bytes_are_lost() {
    found(Rules {
        checks_passed_end: false,
        ..Rules::KEPT
    });
}

#[test]
fn a_word_read_after_the_sockets_is_too_late() {
    found(Rules {
        reads_word_first: false,
        ..Rules::KEPT
    });
}

#[test]
fn counting_before_recording_loses_bytes() {
    found(Rules {
        records_before_counting: false,
        ..Rules::KEPT
    });
}

#[test]
fn bytes_the_relay_has_not_read_must_be_waited_for() {
    found(Rules {
        checks_unread: false,
        ..Rules::KEPT
    });
}

#[test]
fn a_hold_that_is_let_go_reads_no_more_than_it_has_passed_on() {
    found(Rules {
        releases_what_passed: false,
        ..Rules::KEPT
    });
}

#[test]
fn a_death_while_the_queues_are_read_would_end_the_connection() {
    found(Rules {
        guards_ends: false,
        ..Rules::KEPT
    });
}

fn found(rules: Rules) -> Harm {
    match explore(rules) {
        Ok(searched) => panic!("the broken rule went unnoticed: {searched:?}"),
        Err(harm) => harm,
    }
}

/// The state everything starts from.
fn start(rules: Rules) -> System {
    System::new(rules)
}
