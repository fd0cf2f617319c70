//! Waiting for what nobody announces: calls that end, threads that pass by.
//!
//! Announcing it would put a check on every call; so it is looked for.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a check is repeated without sleeping: what is awaited is most often
/// a call that returns within microseconds, and a sleep takes many.
const AWAKE: Duration = Duration::from_micros(100);
/// The first pause between two looks after that, and the longest.
const FIRST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

/// Looks until `done` or the time is over; whether it is done.
pub(super) fn poll_until(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut pause = FIRST;
    loop {
        if done() {
            return true;
        }
        let waited = begun.elapsed();
        if waited >= timeout {
            return false;
        }
        if waited < AWAKE {
            // What is awaited may need this core.
            thread::yield_now();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }
}
