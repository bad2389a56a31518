//! Every byte the kernel program and the daemon both see, and the arithmetic
//! between them.
//!
//! Depends on nothing (aya only behind `user`, for its `Pod` marker), so the
//! same code that rewrites packets in the kernel is run on the host by tests.
#![cfg_attr(not(test), no_std)]

pub mod checksum;
pub mod control;
pub mod door;
pub mod event;
pub mod flow;
pub mod icmp;
pub mod options;
pub mod outcome;
pub mod packet;
pub mod rewrite;
pub mod seq;
pub mod syn;
pub mod track;
pub mod word;

/// Version of the layout of everything pinned; the pin directory carries it.
/// Raise it with any change to [`flow`], [`event`] or a map's shape.
pub const LAYOUT: u32 = 2;
