//! Any bytes in place of a saved state.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of them is run at a time")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::envelope(bytes));
