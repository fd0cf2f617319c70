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

use replug_tests::{report::Report, vitals::have_an_arena_for_each_thread};
use std::process::ExitCode;

fn main() -> ExitCode {
    have_an_arena_for_each_thread();
    let mut report = Report::new("state");
    pause::measure(&mut report);
    rows::measure(&mut report);
    snapshots::measure(&mut report);
    erlang::measure(&mut report, &pause::FILLS);
    report.finish()
}
