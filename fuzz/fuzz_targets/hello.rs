//! The first bytes of TLS clients that are passed through.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| limpet::fuzz::hello::check(bytes));
