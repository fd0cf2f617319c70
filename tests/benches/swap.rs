//! What a swap costs those who call: how soon the pointer is stored, what the
//! slowest calls become while a stateless plugin is swapped all the time, and
//! how long callers wait while a snapshot is handed over.
//!
//! The peer of the second is the control arm: the same callers, with the same
//! swapping going on in a host that nobody calls. What swapping costs the
//! machine is thus in both arms, and what it costs the callers in one. The two
//! versions are not equally fast, so each half of the control arm's callers has
//! one of them: in both arms half of the time is spent in either. Within a round
//! the arms take turns, so that a phase of the machine falls into both. That no caller
//! is made to wait is also counted: by how often the kernel saw it give its core
//! away of its own accord. Three hosts and their callers have more threads than
//! the C library has arenas on two cores (8 each), and callers that were given the
//! same one wait for each other, in whichever arm that falls: here every thread
//! has its own.

use hdrhistogram::Histogram;
use replug_host::{
    Plugin,
    event::{Event, EventKind, StageTimes},
};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is},
    load::unlimited,
    report::{Cell, Limit, Report, median, percentile},
    vitals::have_an_arena_for_each_thread,
};
use std::{
    process::ExitCode,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

const ROUNDS: usize = 5;
const SWAPS: usize = 1_000;
/// How often the arms change places in a round: a turn takes seconds, and the
/// machine's phases take minutes.
const TURNS: usize = 10;
/// As many as the machine has cores, since more would measure its scheduler.
const CALLERS: usize = 2;
/// Waits of all callers that a swap may cause: a first call on a version takes
/// locks, which seldom are taken.
const WAITS_MAX: f64 = 0.1;
const HAND_OVERS: usize = 200;
/// The smallest snapshot that is handed over.
const STATE_BYTES: u64 = 1024;
const TEXT: &[u8] = b"A *short* text, as `code` has it, and [a link](https://example.org).";

fn main() -> ExitCode {
    have_an_arena_for_each_thread();
    let mut report = Report::new("swap");
    stateless(&mut report);
    snapshot(&mut report);
    report.finish()
}

/// A stateless plugin, swapped while it is called, and while it is not.
fn stateless(report: &mut Report) {
    let mut swapped = markdown(&VERSIONS);
    let beside = VERSIONS.each_ref().map(|version| markdown(slice::from_ref(version)));
    let called = swapped.plugin("markdown");
    let quiet = beside.each_ref().map(|harness| harness.plugin("markdown"));
    let (mut swaps, mut uncounted) = (Swaps::default(), Swaps::default());
    let (mut ratios, mut seen) = (Vec::new(), [Seen::default(), Seen::default()]);
    // The first one warms up.
    for round in 0..=ROUNDS {
        let mut arms = [Calls::none(), Calls::none()];
        for turn in 0..TURNS {
            for arm in [turn % 2, 1 - turn % 2] {
                let (plugins, swaps) = match arm {
                    0 => (slice::from_ref(&called), &mut swaps),
                    _ => (&quiet[..], &mut uncounted),
                };
                arms[arm].add(&calls_while(plugins, || swaps.make(&mut swapped, SWAPS / TURNS)));
            }
        }
        if round == 0 {
            (swaps, uncounted) = (Swaps::default(), Swaps::default());
            continue;
        }
        for (seen, calls) in seen.iter_mut().zip(&arms) {
            seen.p999_ns.push(calls.p999_ns());
            seen.waits.push(calls.waits as f64 / SWAPS as f64);
        }
        ratios.push(arms[0].p999_ns() / arms[1].p999_ns());
    }
    report.table(&format!("p99.9 of calls while {SWAPS} swaps are made, median of {ROUNDS} rounds"));
    for (name, seen) in ["called", "control"].into_iter().zip(&seen) {
        let (us, waits) = (median(&seen.p999_ns) / 1e3, median(&seen.waits));
        report.row(&[("arm", name.into()), ("us", us.into()), ("waits per swap", waits.into())]);
    }
    swaps.report(report);
    let ratio = median(&ratios);
    let stored = median(&swaps.of(|stages| stages.publish_ns as f64));
    report.target("pointer stored after the command", stored / 1e3, "us", Limit::AtMost(1.0));
    report.target("callers' p99.9 over the control arm's", ratio, "ratio", Limit::AtMost(1.2));
    let waits = median(&seen[0].waits) - median(&seen[1].waits);
    report.target("callers' waits over the control arm's", waits, "per swap", Limit::AtMost(WAITS_MAX));
}

const VERSIONS: [&str; 2] = ["1.0.0", "2.0.0"];

fn markdown(versions: &[&str]) -> Harness {
    let mut harness = Harness::new();
    for version in versions {
        let file = artifacts::plugin(&format!("markdown-v{}", &version[..1]));
        harness.drop_file(How::Rename, &file, &format!("markdown-{version}.so"));
        harness.published(&format!("markdown@{version}"));
    }
    harness
}

/// What callers saw in an arm, by round.
#[derive(Default)]
struct Seen {
    p999_ns: Vec<f64>,
    /// Per swap.
    waits: Vec<f64>,
}

/// What the engine says of the swaps that were made.
#[derive(Default)]
struct Swaps {
    stages: Vec<StageTimes>,
    drains_us: Vec<f64>,
}

impl Swaps {
    /// Goes from one version to the other and back, each time until the one
    /// that left is unmapped.
    fn make(&mut self, harness: &mut Harness, swaps: usize) {
        for _ in 0..swaps {
            let active = harness.plugin("markdown").version().expect("one serves");
            let next = if active.version.to_string() == VERSIONS[0] { VERSIONS[1] } else { VERSIONS[0] };
            harness.activate("markdown", next).expect("activates");
            harness.expect("the unload", |event| {
                match &event.kind {
                    EventKind::Published { stages, .. } => self.stages.push(*stages),
                    EventKind::Drained { micros } => self.drains_us.push(*micros as f64),
                    _ => {}
                }
                matches!(event.kind, EventKind::Unloaded { .. })
            });
        }
    }

    fn of(&self, figure: fn(&StageTimes) -> f64) -> Vec<f64> {
        self.stages.iter().map(figure).collect()
    }

    fn report(&self, report: &mut Report) {
        report.table(&format!("{} swaps under calls, us", self.stages.len()));
        for (step, samples) in [
            ("pointer stored", self.of(|stages| stages.publish_ns as f64 / 1e3)),
            ("barrier", self.of(|stages| stages.barrier_ns as f64 / 1e3)),
            ("drained", self.drains_us.clone()),
        ] {
            report.row(&distribution(step, &samples));
        }
    }
}

/// How long calls took, in nanoseconds, and how often callers waited.
struct Calls {
    times: Histogram<u64>,
    waits: u64,
}

/// Longer than any call, in nanoseconds; what is longer counts as this.
const LONGEST_NS: u64 = 60_000_000_000;

impl Calls {
    fn none() -> Calls {
        // With bounds, since one without them records nothing above 2 us as it is.
        let times = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("three digits are within its range");
        Calls { times, waits: 0 }
    }

    fn add(&mut self, more: &Calls) {
        self.times.add(&more.times).expect("the same bounds");
        self.waits += more.waits;
    }

    fn p999_ns(&self) -> f64 {
        self.times.value_at_quantile(0.999) as f64
    }
}

/// The calls made while `body` makes its swaps. Callers take the plugins in turns.
fn calls_while(plugins: &[Plugin], body: impl FnOnce()) -> Calls {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = plugins
            .iter()
            .cycle()
            .take(CALLERS)
            .map(|plugin| scope.spawn(|| time_calls(plugin, &done)))
            .collect();
        body();
        done.store(true, Ordering::Release);
        let mut all = Calls::none();
        for caller in callers {
            all.add(&caller.join().expect("does not panic"));
        }
        all
    })
}

/// The calls of this thread.
fn time_calls(plugin: &Plugin, done: &AtomicBool) -> Calls {
    let mut calls = Calls::none();
    let waits = voluntary_switches();
    while !done.load(Ordering::Acquire) {
        let begun = Instant::now();
        plugin.call("render", TEXT).expect("no call fails");
        calls.times.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    calls.waits = voluntary_switches() - waits;
    calls
}

/// How often this thread has given its core away of its own accord, which is to
/// wait for something.
fn voluntary_switches() -> u64 {
    // SAFETY: plain numbers, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the place is ours and of the right type.
    let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    assert_eq!(status, 0, "the kernel knows this thread");
    u64::try_from(usage.ru_nvcsw).expect("a count")
}

/// A plugin that hands its state over while it is called.
fn snapshot(report: &mut Report) {
    let mut harness = limiter();
    let bytes = fill(&mut harness);
    report.table(&format!("callers' longest wait at {HAND_OVERS} hand-overs of {bytes} bytes, us"));
    let mut medians = Vec::new();
    // The host needs a core too: with as many callers as cores, what callers
    // see has a turn of the scheduler in it, and the gate's time has not.
    for callers in [CALLERS / 2, CALLERS, 2 * CALLERS] {
        let (waits, pauses) = hand_over(&mut harness, callers);
        report.row(&distribution(&format!("{callers} callers, as they saw it"), &waits));
        report.row(&distribution(&format!("{callers} callers, gate closed"), &pauses));
        medians.push((median(&waits), median(&pauses)));
    }
    let ((seen, _), (_, closed)) = (medians[0], medians[1]);
    report.target("callers' pause, a core left to the host", seen, "us", Limit::AtMost(200.0));
    report.target("gate closed, as many callers as cores", closed, "us", Limit::AtMost(200.0));
    harness.shutdown();
}

fn limiter() -> Harness {
    let mut harness = Harness::with(|options| options.config("limiter", unlimited()));
    for (package, version) in [("limiter-v2", "2.0.0"), ("limiter-v3", "3.0.0")] {
        let file = artifacts::plugin(package);
        harness.deploy(&file, &format!("limiter-{version}.so"), &format!("limiter@{version}"));
    }
    harness
}

/// Gives the limiter as many clients as make a snapshot of the wanted size,
/// and tells that size.
fn fill(harness: &mut Harness) -> u64 {
    let limiter = harness.plugin("limiter");
    for client in 0.. {
        limiter.call("take", format!(r#"{{"key":"client{client}"}}"#).as_bytes()).expect("takes");
        harness.host.save_state().wait().expect("saves");
        let saved =
            harness.expect("the snapshot", |event| matches!(event.kind, EventKind::StateSaved { .. }));
        if let EventKind::StateSaved { bytes, .. } = saved.kind
            && bytes >= STATE_BYTES
        {
            return bytes;
        }
    }
    unreachable!("the state grows with each client")
}

/// For each hand-over the longest call that any caller saw, and how long the
/// gate was closed, in microseconds.
fn hand_over(harness: &mut Harness, callers: usize) -> (Vec<f64>, Vec<f64>) {
    let load = Waits::start(&harness.plugin("limiter"), callers);
    let (mut waits, mut pauses) = (Vec::new(), Vec::new());
    for turn in 0..HAND_OVERS {
        let next = ["2.0.0", "3.0.0"][turn % 2];
        if harness.plugin("limiter").version().expect("one serves").version.to_string() == next {
            continue;
        }
        harness.activate("limiter", next).expect("activates");
        let full = format!("limiter@{next}");
        let published = harness.expect("the hand-over", |event: &Event| {
            matches!(event.kind, EventKind::Published { .. }) && is(event, &full)
        });
        if let EventKind::Published { stages, .. } = &published.kind {
            pauses.push(stages.pause_us as f64);
        }
        harness.expect("the unload", |event| matches!(event.kind, EventKind::Unloaded { .. }));
        waits.push(load.longest_at_gate() as f64 / 1e3);
    }
    load.stop();
    (waits, pauses)
}

/// Callers that remember the longest call that began on one version and ended
/// on another: the one that waited at the gate.
struct Waits {
    longest_ns: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

impl Waits {
    fn start(plugin: &Plugin, callers: usize) -> Waits {
        let longest_ns = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let callers = (0..callers)
            .map(|_| {
                let (plugin, longest_ns, done) = (plugin.clone(), Arc::clone(&longest_ns), Arc::clone(&done));
                thread::spawn(move || {
                    let version = || plugin.version().expect("one serves");
                    let mut before = version();
                    while !done.load(Ordering::Acquire) {
                        let begun = Instant::now();
                        plugin.call("take", br#"{"key":"client0"}"#).expect("no call fails");
                        let after = version();
                        let took = begun.elapsed().as_nanos() as u64;
                        if after != before {
                            longest_ns.fetch_max(took, Ordering::Relaxed);
                            before = after;
                        }
                    }
                })
            })
            .collect();
        Waits { longest_ns, done, callers }
    }

    fn longest_at_gate(&self) -> u64 {
        self.longest_ns.swap(0, Ordering::Relaxed)
    }

    fn stop(self) {
        self.done.store(true, Ordering::Release);
        self.callers.into_iter().for_each(|caller| caller.join().expect("does not panic"));
    }
}

fn distribution<'a>(step: &str, samples: &[f64]) -> [(&'a str, Cell); 4] {
    [
        ("step", step.into()),
        ("median", median(samples).into()),
        ("p99", percentile(samples, 99.0).into()),
        ("longest", percentile(samples, 100.0).into()),
    ]
}
