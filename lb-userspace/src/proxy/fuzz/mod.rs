//! What every input must survive: the readers of what clients, other balancers and
//! operators write. libFuzzer searches them (`fuzz/`); the tests here try stored seeds and
//! random inputs on stable Rust.
//!
//! Each `check` panics where its reader is wrong.

pub mod config;
pub mod cookie;
pub mod hello;
pub mod proxy_header;
pub mod rules;

#[cfg(test)]
mod tests;
