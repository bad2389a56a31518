//! Balancing: which target gets the next session. No I/O, no clock.

mod round_robin;

pub(crate) use round_robin::RoundRobin;
