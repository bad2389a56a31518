//! Cookie headers, and what claims to be sealed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| limpet::fuzz::cookie::check(bytes));
