//! `scripts/soak state --count N --seconds N`: what plugins keep in tables, and
//! what was decided about their versions, through kills and beside each other.
//!
//! First hosts are killed, `N` with tables kept by the process and beside them `N`
//! with tables kept by the disk, while sessions are opened, touched and closed and
//! versions 1, 2 and 3 are chosen, tried, gone back from and committed. Whatever
//! was acknowledged has to be there when the next host has started, in the shape
//! of the version that serves, which has to be the one that was decided on last.
//!
//! Then two versions write the same rows for some seconds, one is committed, and
//! gone back from. Every update has to count once.

mod names;
mod words;
mod victim;
mod writers;
mod changes;
mod life;
mod ledger;
mod kills;
mod sharing;

use kills::Kills;
use replug_tests::report::Report;
use sharing::Sharing;
use std::{env, process::ExitCode, thread, time::Duration};
use victim::Role;

const COUNT: u64 = 100;
const SECONDS: u64 = 30;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(role) = Role::of(&words) {
        life::live(&role);
        return ExitCode::SUCCESS;
    }
    let (mut count, mut seconds) = (COUNT, SECONDS);
    let mut rest = words.as_slice();
    loop {
        let (set, number, more) = match rest {
            [] => return soak(count, seconds),
            // The report itself looks for it.
            ["--json", more @ ..] => {
                rest = more;
                continue;
            }
            ["--count", number, more @ ..] => (&mut count, number, more),
            ["--seconds", number, more @ ..] => (&mut seconds, number, more),
            _ => return usage(),
        };
        let Ok(number) = number.parse() else { return usage() };
        *set = number;
        rest = more;
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: soak-state [--count N] [--seconds N] [--json]");
    ExitCode::from(2)
}

fn soak(count: u64, seconds: u64) -> ExitCode {
    let mut report = Report::new("soak state");
    // Beside each other: hosts wait for disks and clocks most of the time.
    let kinds = thread::scope(|scope| {
        let runs = ["process", "disk"].map(|kept_by| scope.spawn(move || Kills::run(kept_by, count)));
        runs.map(|run| run.join().expect("does not panic"))
    });
    for kills in kinds {
        kills.print(&mut report);
        kills.judge(&mut report, count);
    }
    let sharing = Sharing::run(Duration::from_secs(seconds));
    sharing.print(&mut report);
    sharing.judge(&mut report);
    report.finish()
}
