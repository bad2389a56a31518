//! The lab: network namespaces for clients, the balancer and three targets,
//! and scripted peers to put in them. Used by the tests, the demo and the
//! benchmarks.
//!
//! A socket belongs to the namespace of the thread that made it. So only the
//! making goes through [`namespace::Namespace`]; everything after that runs in
//! whatever runtime the caller has.
#![forbid(unsafe_code)]

pub mod admin;
pub mod certificate;
pub mod client;
pub mod counters;
pub mod daemon;
pub mod distance;
pub mod head;
pub mod interrupt;
pub mod lab;
pub mod leftovers;
pub mod name_server;
pub mod namespace;
pub mod passage;
pub mod pattern;
pub mod raw;
pub mod router;
pub mod run;
pub mod scene;
pub mod shell;
pub mod sockets;
pub mod tap;
pub mod target;
pub mod trace;
pub mod until;
pub mod web_socket;
