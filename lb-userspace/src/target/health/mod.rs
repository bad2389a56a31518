//! Whether targets are well: asked by checks at intervals (`check`, `checker`),
//! learned from connects that fail, and judged by thresholds (`judge`).

mod check;
mod checker;
mod failure;
mod judge;

pub(crate) use checker::start;
pub(crate) use failure::Failure;
pub(crate) use judge::{Health, Judge};
