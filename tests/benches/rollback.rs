//! Going back to a version that is kept ready, under load: from the command to
//! the stored pointer, with the barrier and the drain that come after it.

use replug_host::event::EventKind;
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    load::Load,
    report::{Cell, Limit, Report, median, percentile},
};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

const ROLLBACKS: usize = 200;
const CALLERS: usize = 2;
/// Longer than this runs.
const PROBATION: Duration = Duration::from_secs(3_600);

/// Of one rollback, in microseconds.
struct Figures {
    stored: f64,
    barrier: f64,
    whole: f64,
    drain: f64,
    in_flight: f64,
}

fn main() -> ExitCode {
    let mut harness = Harness::with(|options| options.probation(PROBATION));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    let markdown = harness.plugin("markdown");
    let load = Load::start(CALLERS, move |_, _, _| markdown.call("render", b"*x*").map(drop));
    let figures: Vec<Figures> = (0..ROLLBACKS).map(|_| roll_back(&mut harness, &load)).collect();
    let log = load.stop();
    let mut report = Report::new("rollback");
    report.table(&format!("{ROLLBACKS} rollbacks under {CALLERS} callers, {} calls, us", log.answered));
    let mut row = |step: &str, of: fn(&Figures) -> f64| {
        let samples: Vec<f64> = figures.iter().map(of).collect();
        report.row(&[
            ("step", Cell::from(step)),
            ("median", median(&samples).into()),
            ("p99", percentile(&samples, 99.0).into()),
            ("longest", percentile(&samples, 100.0).into()),
        ]);
        median(&samples)
    };
    let stored = row("command to stored pointer", |of| of.stored);
    row("then: membarrier", |of| of.barrier);
    row("command to its return", |of| of.whole);
    row("drain", |of| of.drain);
    row("calls in flight (count)", |of| of.in_flight);
    let failed: u64 = log.failed.values().map(|(count, _)| count).sum();
    report.target("command to stored pointer, median", stored, "us", Limit::AtMost(10.0));
    report.target("failed calls", failed as f64, "calls", Limit::AtMost(0.0));
    harness.shutdown();
    report.finish()
}

/// Goes back from 2.0.0 to 1.0.0, and forward again by its file.
fn roll_back(harness: &mut Harness, load: &Load) -> Figures {
    load.wait_for(10);
    let name = "markdown".parse().expect("a name");
    let begun = Instant::now();
    let back = harness.host.roll_back(&name, None).expect("1.0.0 is kept ready");
    let whole = begun.elapsed();
    assert_eq!((back.from.version.major, back.to.version.major), (2, 1));
    let drained = harness.expect("draining 2.0.0", |event| {
        matches!(event.kind, EventKind::Drained { .. }) && is(event, "markdown@2.0.0")
    });
    let EventKind::Drained { micros } = drained.kind else { unreachable!("as was waited for") };
    harness.unloaded("markdown@2.0.0");
    harness.activate("markdown", "2.0.0").expect("it serves again");
    let micros_of = |time: Duration| time.as_nanos() as f64 / 1e3;
    Figures {
        stored: micros_of(back.stored),
        barrier: micros_of(back.barrier),
        whole: micros_of(whole),
        drain: micros as f64,
        in_flight: back.in_flight as f64,
    }
}
