//! What state costs when versions change: the pause that callers see while rows
//! in tables get another shape, the sweep behind it, a row read and written in
//! a table over one in a map of the plugin's own, and snapshots handed over.
//!
//! Erlang, whose upgrades convert the state of a process while its callers
//! wait, runs beside it if it is installed.

mod callers;
mod pause;
mod rows;
mod snapshots;
mod erlang;

use replug_tests::report::Report;
use std::process::ExitCode;

/// More arenas of the C library's allocator than there are threads: on two cores it
/// has as many as threads of three hosts, and whoever shares one waits for the other.
const ARENAS: libc::c_int = 128;

fn main() -> ExitCode {
    // SAFETY: sets a number; no thread has been started.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    assert_eq!(set, 1, "the C library takes the number of arenas");
    let mut report = Report::new("state");
    pause::measure(&mut report);
    rows::measure(&mut report);
    snapshots::measure(&mut report);
    erlang::measure(&mut report, &pause::FILLS);
    report.finish()
}
