//! TLS (RFC 8446, RFC 5246). Toward clients: certificates, the handshake, and new
//! certificates while running; toward targets: `targets`. What is inside is `proxy`'s.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    expect(
        clippy::indexing_slicing,
        reason = "in a test a panic is a failure, as it should be"
    )
)]

mod certificates;
mod clients;
pub(crate) mod hello;
mod pair;
mod rotation;
mod server;
mod targets;

pub(crate) use certificates::Certificates;
pub(crate) use clients::{Asked, Clients, subject};
pub(crate) use pair::{Files, Pair};
pub(crate) use rotation::Rotation;
pub(crate) use server::{Failed, HTTP1, HTTP2, Server};
pub(crate) use targets::{Client, Trust};

#[cfg(test)]
pub(crate) mod authority;
#[cfg(test)]
mod tests;
