//! `scripts/soak swaps --count N`: swaps of a stateless plugin that does
//! everything which keeps libraries resident, and of one that hands its state
//! over, under load from threads that never end.
//!
//! It holds when no call failed, no update was lost, every version that left
//! was unmapped (a second process reads this one's mappings to confirm it), and
//! memory, files, mappings and pthread keys stay where they were.

use replug_tests::{
    artifacts,
    harness::{Harness, wait_until},
    load::{Load, unlimited},
    report::{Limit, Report},
    vitals::{Vitals, copies_seen_from_outside, observer},
};
use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Swaps between two looks at the process.
const LOOK_EVERY: u64 = 20;
/// Looks that are taken together: those of a hundred swaps.
const LOOKS_TOGETHER: usize = 5;
/// Looks before the process counts as warm: memory at the end is compared with
/// swaps 400 to 500.
const LOOKS_TO_WARM: usize = 20;
/// Calls per second below which the load does not count as load.
const CALLS_PER_SECOND_MIN: f64 = 1_000.0;

fn main() -> ExitCode {
    if observer() {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // The report itself looks for `--json`.
        [] | ["--json"] => soak(300),
        ["--count", count] | ["--count", count, "--json"] => count.parse().map_or_else(|_| usage(), soak),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: soak-swaps [--count N] [--json]");
    ExitCode::from(2)
}

/// What is seen of the process when the load is paused.
struct Look {
    vitals: Vitals,
    observed: u64,
}

struct Soak {
    harness: Harness,
    paused: Arc<AtomicBool>,
    loads: Vec<Load>,
    swaps: u64,
    unloaded: u64,
    with_calls_in_flight: u64,
}

fn soak(count: u64) -> ExitCode {
    let mut soak = Soak::start();
    let begun = Instant::now();
    let mut looks = Vec::new();
    for swap in 0..count {
        soak.swap(swap);
        if (swap + 1) % LOOK_EVERY == 0 {
            looks.push(soak.look());
        }
    }
    if looks.is_empty() {
        looks.push(soak.look());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls: u64 = soak.loads.iter().map(Load::calls).sum();
    let limiter = soak.harness.plugin("limiter");
    let (mut failed, mut lost) = (0, 0);
    for load in soak.loads.drain(..) {
        let log = load.stop();
        for (code, (count, message)) in &log.failed {
            eprintln!("{count} calls failed with {code}: {message}");
            failed += count;
        }
        lost += log.lost_takes(&limiter);
    }
    let mut report = Report::new("soak swaps");
    report.table("the run");
    report.row(&[("swaps", soak.swaps.into()), ("seconds", seconds.into()), ("calls", calls.into())]);
    report.target("swaps", soak.swaps as f64, "swaps", Limit::AtLeast(count as f64));
    report.target("failed calls", failed as f64, "calls", Limit::AtMost(0.0));
    report.target("lost updates", lost as f64, "updates", Limit::AtMost(0.0));
    let missing = soak.swaps - soak.unloaded.min(soak.swaps);
    report.target("unloads not proven", missing as f64, "versions", Limit::AtMost(0.0));
    let in_flight = soak.with_calls_in_flight as f64 / soak.swaps as f64;
    report.target("swaps with calls in flight", in_flight, "share", Limit::AtLeast(0.9));
    report.target(
        "calls per second",
        calls as f64 / seconds,
        "calls/s",
        Limit::AtLeast(CALLS_PER_SECOND_MIN),
    );
    judge_looks(&mut report, &looks);
    soak.harness.shutdown();
    report.finish()
}

/// Compares the last hundred swaps with the hundred after the process had
/// warmed up, by the median of their looks.
fn judge_looks(report: &mut Report, looks: &[Look]) {
    // A short run has not warmed up when it is first looked at.
    let short = looks.len() < LOOKS_TO_WARM + 2 * LOOKS_TOGETHER;
    let warm = if short { 0 } else { LOOKS_TO_WARM };
    let warm = &looks[warm..(warm + LOOKS_TOGETHER).min(looks.len())];
    let last = &looks[looks.len().saturating_sub(LOOKS_TOGETHER)..];
    let vitals = |looks: &[Look]| looks.iter().map(|look| look.vitals).collect::<Vec<_>>();
    Vitals::judge(report, &vitals(warm), &vitals(last), if short { 16.0 } else { 2.0 });
    let strays = looks.iter().filter(|look| look.observed != 2).count();
    report.target("looks with stray mappings, seen from outside", strays as f64, "looks", Limit::AtMost(0.0));
}

impl Soak {
    fn start() -> Soak {
        let mut harness = Harness::with(|options| options.config("limiter", unlimited()));
        for (package, name, version) in [
            ("threads-v1", "threads-1.0.0.so", "threads@1.0.0"),
            ("threads-v2", "threads-2.0.0.so", "threads@2.0.0"),
            ("limiter-v1", "limiter-1.0.0.so", "limiter@1.0.0"),
            ("limiter-v2", "limiter-2.0.0.so", "limiter@2.0.0"),
            ("limiter-v3", "limiter-3.0.0.so", "limiter@3.0.0"),
        ] {
            harness.deploy(&artifacts::plugin(package), name, version);
        }
        let paused = Arc::new(AtomicBool::new(false));
        let loads = vec![
            takes(&harness, &paused, 4),
            churn(&harness, &paused, 2),
            // Keeps calls in flight whenever a version is replaced.
            slow(&harness, &paused, 2),
        ];
        let mut soak = Soak { harness, paused, loads, swaps: 0, unloaded: 0, with_calls_in_flight: 0 };
        soak.harness.unloaded("limiter@2.0.0");
        soak
    }

    fn swap(&mut self, number: u64) {
        let (name, version) = match number % 6 {
            0 | 2 | 4 => ("threads", if number.is_multiple_of(4) { "1.0.0" } else { "2.0.0" }),
            1 => ("limiter", "1.0.0"),
            3 => ("limiter", "2.0.0"),
            _ => ("limiter", "3.0.0"),
        };
        let active = self.harness.plugin(name).version().map(|id| id.version.to_string());
        let version = match active {
            Ok(active) if active == version && version == "1.0.0" => "2.0.0",
            Ok(active) if active == version => "1.0.0",
            _ => version,
        };
        self.harness.activate(name, version).expect("the swap is carried out");
        let mut with_calls = false;
        let mut published = false;
        let mut unloaded = 0;
        let full = format!("{name}@{version}");
        self.harness.expect("the swap", |event| {
            use replug_host::event::EventKind;
            match &event.kind {
                EventKind::Published { in_flight, .. } if replug_tests::harness::is(event, &full) => {
                    with_calls = *in_flight > 0;
                    published = true;
                }
                EventKind::Unloaded { .. } => unloaded += 1,
                _ => {}
            }
            published
        });
        self.swaps += 1;
        self.unloaded += unloaded;
        self.with_calls_in_flight += u64::from(with_calls);
    }

    /// Pauses the load, waits for the unloads, trims the heap, and looks.
    fn look(&mut self) -> Look {
        self.paused.store(true, Ordering::Release);
        while self.unloaded < self.swaps {
            self.harness.expect("all unloads", |event| {
                matches!(event.kind, replug_host::event::EventKind::Unloaded { .. })
            });
            self.unloaded += 1;
        }
        wait_until("unload threads being gone", || {
            self.harness.host.status().plugins.iter().all(|plugin| plugin.unloading.is_empty())
        });
        let look = Look {
            vitals: Vitals::now(),
            observed: copies_seen_from_outside(&self.harness.data_dir().join("private")),
        };
        self.paused.store(false, Ordering::Release);
        look
    }
}

fn takes(harness: &Harness, paused: &Arc<AtomicBool>, threads: usize) -> Load {
    let (limiter, paused) = (harness.plugin("limiter"), Arc::clone(paused));
    Load::start(threads, move |number, turn, log| {
        rest_while(&paused);
        let key = format!("caller{number}/key{}", turn % 8);
        let reply = limiter.call("take", format!(r#"{{"key":"{key}"}}"#).as_bytes())?;
        if reply.text().is_ok_and(|text| text.contains(r#""allowed":true"#)) {
            *log.takes.entry(key).or_default() += 1;
        }
        Ok(())
    })
}

fn churn(harness: &Harness, paused: &Arc<AtomicBool>, threads: usize) -> Load {
    let (plugin, paused) = (harness.plugin("threads"), Arc::clone(paused));
    Load::start(threads, move |_, turn, _| {
        rest_while(&paused);
        plugin.call("churn", format!("someone{turn}@example.org").as_bytes())?;
        match turn % 64 {
            7 => plugin.call("parallel", b"100").map(drop),
            23 => plugin.call("echo", b"through a socket").map(drop),
            41 => plugin.call("sleep", br#"{"ms": 1}"#).map(drop),
            _ => Ok(()),
        }
    })
}

fn slow(harness: &Harness, paused: &Arc<AtomicBool>, threads: usize) -> Load {
    let (plugin, paused) = (harness.plugin("threads"), Arc::clone(paused));
    Load::start(threads, move |_, _, _| {
        rest_while(&paused);
        plugin.call("slow", br#"{"ms": 2}"#).map(drop)
    })
}

fn rest_while(paused: &AtomicBool) {
    while paused.load(Ordering::Acquire) {
        // sleep: the load is paused on purpose, and its threads pass by.
        thread::sleep(Duration::from_millis(1));
        replug_host::dispatch::pass_by();
    }
}
