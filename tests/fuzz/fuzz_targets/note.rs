//! Any bytes in place of the description of a note.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of them is run at a time")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::note(bytes));
