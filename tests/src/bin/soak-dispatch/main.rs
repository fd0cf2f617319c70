//! `scripts/soak dispatch --seconds N`: everything that the dispatch core has
//! to stand at once, with real libraries that are really unmapped, so that a
//! use after the unmapping is a crash.
//!
//! | who | does |
//! |---|---|
//! | descents | calls that nest and go in circles through two plugins, up to [`callers::DEPTH_MAX`] deep |
//! | flat callers | short calls, slow calls, leases, calls by `enter` |
//! | births | threads that are born, call, and die |
//! | async callers | calls that are given up at a random moment, some on another thread |
//! | the status reader | looks at all of it |
//! | the swapper | replaces a stateless plugin, hands another's state over, tries versions beside each other |
//! | the unloader | takes a plugin out altogether, and puts it back |
//!
//! It holds when no call failed, no update was lost, and every version that
//! left was unmapped. Two things are no failures, and are counted apart: a call
//! of the plugin that is out at that moment, and a deadline of a millisecond.

mod cast;
mod callers;
mod changes;
mod audit;

use audit::{Seen, audit};
use cast::{Cast, Counts};
use replug_tests::{
    artifacts,
    dice::Dice,
    harness::{Harness, PATIENCE, wait_until},
    load::Load,
    report::{Limit, Report},
    vitals::{Vitals, copies_seen_from_outside, observer},
};
use std::{
    env,
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two looks at the process.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks before the process is held to a tight bound of memory.
const LOOKS_TO_WARM: usize = 20;
/// One copy each of the three plugins.
const COPIES: u64 = 3;

fn main() -> ExitCode {
    if observer() {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // The report itself looks for `--json`.
        [] | ["--json"] => soak(60),
        ["--seconds", count] | ["--seconds", count, "--json"] => count.parse().map_or_else(|_| usage(), soak),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: soak-dispatch [--seconds N] [--json]");
    ExitCode::from(2)
}

fn soak(seconds: u64) -> ExitCode {
    let harness = harness();
    let audit = audit(harness.host.events_since(1));
    let cast = Arc::new(Cast::of(&harness));
    let loads = [
        cast.callers(3, callers::descend),
        cast.callers(3, callers::call_flat),
        cast.callers(3, callers::be_born),
        cast.callers(4, callers::call_async),
        cast.callers(1, callers::read_status),
        cast.callers(1, changes::take_out_and_put_back),
    ];
    let begun = Instant::now();
    let (mut dice, mut looks, mut refused) = (Dice::new(0, 0), Vec::new(), 0);
    while looks.is_empty() || begun.elapsed() < Duration::from_secs(seconds) {
        let next_look = Instant::now() + LOOK_EVERY;
        while Instant::now() < next_look {
            if let Err(error) = changes::swap(&cast, &mut dice) {
                eprintln!("a swap was refused: {error}");
                refused += 1;
            }
        }
        looks.push(look(&harness, &cast));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls = loads.iter().map(Load::calls).sum();
    let mut failed = 0;
    for (code, (count, message)) in loads.into_iter().flat_map(|load| load.stop().failed) {
        eprintln!("{count} calls failed with {code}: {message}");
        failed += count;
    }
    cast.drop_left();
    let lost = cast.lost_updates();
    harness.shutdown();
    let seen = audit.join().expect("the audit does not panic");
    let run = Run { seconds, calls, failed, lost, refused, seen, looks };
    let mut report = Report::new("soak dispatch");
    run.print(&mut report, &cast.counts);
    run.judge(&mut report, &cast.counts);
    report.finish()
}

/// What came of it, but for what the cast has counted.
struct Run {
    seconds: f64,
    calls: u64,
    failed: u64,
    lost: u64,
    refused: u64,
    seen: Seen,
    /// What the process held, and how many copies were mapped.
    looks: Vec<(Vitals, u64)>,
}

impl Run {
    fn print(&self, report: &mut Report, counts: &Counts) {
        let Run { seconds, calls, seen, .. } = self;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        report.table(&format!("{seconds:.0} seconds"));
        for (what, count) in [
            ("calls", *calls),
            ("threads born", of(&counts.born)),
            ("async calls given up", of(&counts.given_up)),
            ("of these, on another thread", of(&counts.given_up_elsewhere)),
            ("deadlines passed", of(&counts.late)),
            ("calls while the plugin was out", of(&counts.out)),
            ("looks at the status", of(&counts.status)),
            ("versions published", seen.count("published")),
            ("hand-overs of state", seen.count("state_handed_over")),
            ("trials promoted", seen.count("promoted")),
            ("trials rolled back", seen.count("rolled_back")),
            ("versions that served", seen.served()),
            ("versions unloaded with proof", seen.count("unloaded")),
        ] {
            let per_second = count as f64 / seconds;
            report.row(&[("what", what.into()), ("count", count.into()), ("per s", per_second.into())]);
        }
    }

    fn judge(&self, report: &mut Report, counts: &Counts) {
        let (seen, none) = (&self.seen, Limit::AtMost(0.0));
        let unproven = seen.served().abs_diff(seen.count("unloaded"));
        report.target("failed calls", self.failed as f64, "calls", none);
        report.target("lost updates", self.lost as f64, "updates", none);
        report.target("swaps refused", self.refused as f64, "swaps", none);
        report.target("unloads not proven", unproven as f64, "versions", none);
        report.target("events that need attention", seen.troubles as f64, "events", none);
        let in_use = seen.replaced_in_use as f64 / seen.replaced as f64;
        report.target("swaps with calls in flight", in_use, "share", Limit::AtLeast(0.5));
        let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / self.seconds;
        let enough = Limit::AtLeast(10.0);
        report.target("threads born", per_second(&counts.born), "per s", enough);
        report.target("async calls given up", per_second(&counts.given_up), "per s", enough);
        self.judge_looks(report);
    }

    /// The first quarter is warming up; the second is what the last is held
    /// against.
    fn judge_looks(&self, report: &mut Report) {
        let vitals: Vec<Vitals> = self.looks.iter().map(|(vitals, _)| *vitals).collect();
        let quarter = vitals.len().div_ceil(4);
        let before: Vec<Vitals> = vitals.iter().skip(vitals.len() / 4).take(quarter).copied().collect();
        let memory_mib = if vitals.len() < LOOKS_TO_WARM { 16.0 } else { 4.0 };
        Vitals::judge(report, &before, &vitals[vitals.len() - quarter..], memory_mib);
        let strays = self.looks.iter().filter(|(_, copies)| *copies != COPIES).count();
        let none = Limit::AtMost(0.0);
        report.target("looks with stray mappings, seen from outside", strays as f64, "looks", none);
    }
}

fn harness() -> Harness {
    let mut harness = Harness::new();
    for major in 1..=2 {
        let library = artifacts::hostile(&format!("hostile-v{major}"));
        harness.deploy(&library, &format!("hostile-{major}.0.0.so"), &format!("hostile@{major}.0.0"));
    }
    for major in 1..=2 {
        let library = artifacts::plugin(&format!("threads-v{major}"));
        harness.deploy(&library, &format!("threads-{major}.0.0.so"), &format!("threads@{major}.0.0"));
    }
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    harness
}

/// Brings everything to rest, waits for the unloads, and looks: at what the
/// process holds, and at how many copies are mapped.
fn look(harness: &Harness, cast: &Cast) -> (Vitals, u64) {
    cast.paused.store(true, Ordering::Release);
    let _in = cast.out.lock().unwrap_or_else(PoisonError::into_inner);
    let is_idle = |plugin: &replug_host::PluginStatus| plugin.in_flight == 0 && plugin.leases.is_empty();
    wait_until("all calls being over", || {
        cast.drop_left();
        cast.host.status().plugins.iter().all(is_idle)
    });
    // Calls that were given up leave sockets behind that end with their version.
    cast.host
        .activate(cast.threads.name(), Some(changes::other(&cast.threads)))
        .wait()
        .expect("it is activated");
    let left = 1 + cast.leaving.fetch_add(1, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    loop {
        // Of a version on its way out one may be given up only now.
        cast.drop_left();
        let status = cast.host.status();
        let unmapped: u64 = status.plugins.iter().map(|plugin| plugin.unloads_proven).sum();
        if unmapped >= left {
            break;
        }
        assert!(Instant::now() < until, "{left} versions left, {unmapped} are unmapped: {status:#?}");
        // sleep: between two looks.
        thread::sleep(Duration::from_millis(1));
    }
    let copies = copies_seen_from_outside(&harness.data_dir().join("private"));
    let vitals = Vitals::now();
    cast.paused.store(false, Ordering::Release);
    (vitals, copies)
}
