//! The rewrite rules against random packets.
//!
//! Packets are built and taken apart by code of the tests' own, checksums summed
//! from scratch, and what must come out is said in plain arithmetic: nothing
//! here asks the code under test what is right.

mod challenge;
mod error;
mod expected;
mod forward;
mod frame;
mod icmp;
mod malformed;
mod parse;
mod piece;
mod random;
mod reference;
mod track;
mod window;
