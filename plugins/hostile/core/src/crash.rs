//! Ends of the whole process.

use serde::{Deserialize, Serialize};
use std::{hint::black_box, process, ptr};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// Reads an address that is not mapped.
    Segv,
    /// Uses up the stack.
    StackOverflow,
    /// Aborts.
    Abort,
    /// Exits with status 7.
    Exit,
    /// Exits with status 0.
    ExitWell,
}

impl Crash {
    /// Does it.
    pub fn now(self) -> ! {
        match self {
            Crash::Segv => {
                let nothing = ptr::without_provenance::<u64>(8);
                // SAFETY: none. The read is meant to fault: no system maps the
                // first page, and nothing is done with what it would give.
                black_box(unsafe { nothing.read_volatile() });
                process::abort()
            }
            Crash::StackOverflow => {
                black_box(descend(1));
                process::abort()
            }
            Crash::Abort => process::abort(),
            Crash::Exit => process::exit(7),
            Crash::ExitWell => process::exit(0),
        }
    }
}

/// Recursion without an end that the compiler could see.
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == 0 {
        return frame[0];
    }
    descend(depth + 1) + black_box(frame)[1]
}
