//! The kernel program itself, as it is embedded, run over single packets by
//! BPF_PROG_TEST_RUN: packet in, verdict, packet out, counters, flow.
//!
//! Needs root and BPF; each test has a pin directory, maps and a network
//! namespace of its own, all gone when it ends.

mod challenging;
mod closing;
mod commit;
mod delivering;
mod doors;
mod dressing;
#[path = "../../../../lb-common/tests/rewrite/error.rs"]
mod error;
mod features;
mod forwarding;
#[path = "../../../../lb-common/tests/rewrite/frame.rs"]
mod frame;
mod guarding;
mod hostile;
mod judging;
mod kernel;
mod layouts;
mod lookup;
mod observing;
mod odd;
mod options;
mod packets;
#[path = "../../../../lb-common/tests/rewrite/piece.rs"]
mod piece;
mod pins;
mod race;
#[path = "../../../../lb-common/tests/rewrite/reference.rs"]
mod reference;
mod refusing;
mod reporting;
mod reusing;
mod routes;
mod run;
mod sample;
mod wire;
