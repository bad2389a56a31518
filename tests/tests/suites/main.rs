//! Suites that others wrote, or that others' programs run, against the daemon in a lab:
//! the short ones with every `cargo xtask test`, the long ones with
//! `cargo xtask test --suites`. docs/suites.md says what each looks at and has found.

mod autobahn;
mod browser;
mod slow;
mod ssl;
mod vtc;
