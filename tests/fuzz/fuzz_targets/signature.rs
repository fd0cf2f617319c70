//! Any text in place of a signature, or of the comment that it signs.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of them is run at a time")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::signature(bytes));
