//! What a protected call costs: the same function of a dlopened library through
//! a bare pointer from dlsym, through the dispatch core (one entry per call,
//! counted per version), through a typed interface of a running host (the same,
//! with a trait on both sides), and through `arc_swap::ArcSwap::load`.
//!
//! The core's payload holds the function as the handshake resolved it, as a
//! typed handle keeps it. Rounds are interleaved, so that a busy machine is
//! fair to all.

use arc_swap::ArcSwap;
use bench_interface::{Add, AddVtableRef, Adder, ID, VERSION};
use replug_host::{
    artifact::stage::{StageLimits, Stager},
    dispatch::{Outside, Payload, Route, Share, Slot, Version},
    load::Loaded,
};
use replug_tests::{
    artifacts,
    harness::Harness,
    report::{Cell, Limit, Report, Rounds, median, rounds},
    symbol::symbol,
};
use std::{
    ffi::c_void,
    hint::black_box,
    process::ExitCode,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const ROUNDS: usize = 201;
const CALLS: u64 = 1_000_000;

/// What a typed handle keeps of a version.
struct Resolved {
    add: Add,
    state: u64,
    loaded: Loaded,
}

impl Payload for Resolved {
    fn detach_thread(&self, _: &Outside) -> u64 {
        // SAFETY: outside of every call, says the core, which asks once.
        unsafe { self.loaded.detach_thread() }
    }
}

/// The same for the other two: no library to keep.
struct Plain {
    add: Add,
    state: u64,
}

fn main() -> ExitCode {
    let store = tempfile::tempdir().expect("a directory");
    let stager = Stager::new(store.path().join("private"), StageLimits::default()).expect("the store");
    let loaded = open(&stager);
    let symbol = symbol(&loaded, c"bench_add").expect("the library exports it");
    // SAFETY: it is of this type, as its interface crate says.
    let symbol = unsafe { std::mem::transmute::<*mut c_void, Add>(symbol.as_ptr()) };
    let bare = Plain { add: symbol, state: 7 };
    let slot = Slot::new(Duration::from_secs(1));
    assert!(slot.publish(version(loaded)).expect("the gate is open").is_none());
    let split = Slot::new(Duration::from_secs(1));
    assert!(split.publish(version(open(&stager))).expect("the gate is open").is_none());
    let share = Share::from_basis_points(500).expect("at most the whole");
    split.split(version(open(&stager)), share, 1).expect("the gate is open");
    let swapped = ArcSwap::from_pointee(Plain { add: symbol, state: 7 });

    let mut harness = Harness::with(|host| host.interface::<dyn Adder>());
    harness.deploy(&artifacts::plugin("bench-target"), "bench-target.so", "bench-target@1.0.0");
    let plugin = harness.plugin("bench-target");
    let typed = plugin.typed::<dyn Adder>().expect("is registered");

    let bare_call = |x| call(black_box(&bare).add, &black_box(&bare).state, x);
    let ours_call = |x| {
        let answer = black_box(&slot).enter(move |entered| {
            let version = entered.payload();
            call(version.add, &version.state, x)
        });
        answer.unwrap_or_default()
    };
    let keyed_call = |x: u64| {
        let key = x.to_le_bytes();
        let answer = black_box(&split).enter_routed(Route::Key(&key), move |entered| {
            let version = entered.payload();
            call(version.add, &version.state, x)
        });
        answer.unwrap_or_default()
    };
    let sequence_call = |x| {
        let answer = black_box(&split).enter(move |entered| {
            let version = entered.payload();
            call(version.add, &version.state, x)
        });
        answer.unwrap_or_default()
    };
    let typed_call = |x| black_box(&typed).call(move |adder| adder.add(x)).unwrap_or_default();
    let arc_swap_call = |x| {
        let version = black_box(&swapped).load();
        call(version.add, &version.state, x)
    };

    let mut report = Report::new("dispatch");
    // One, two and four threads take turns too: what they are compared for is
    // how others slow a thread, and a machine that drifts does so as well.
    let figures = rounds(
        ROUNDS,
        &mut [
            ("bare", &mut || time(1, &bare_call)),
            ("ours", &mut || time(1, &ours_call)),
            ("typed", &mut || time(1, &typed_call)),
            ("arc-swap", &mut || time(1, &arc_swap_call)),
            ("ours, keyed, 5 % split", &mut || time(1, &keyed_call)),
            ("ours, 5 % split", &mut || time(1, &sequence_call)),
            ("bare, 2 threads", &mut || time(2, &bare_call)),
            ("ours, 2 threads", &mut || time(2, &ours_call)),
            ("typed, 2 threads", &mut || time(2, &typed_call)),
            ("arc-swap, 2 threads", &mut || time(2, &arc_swap_call)),
            ("bare, 4 threads", &mut || time_of_all(4, &bare_call)),
            ("ours, 4 threads", &mut || time_of_all(4, &ours_call)),
            ("arc-swap, 4 threads", &mut || time_of_all(4, &arc_swap_call)),
        ],
    );
    print(&mut report, &figures);
    let over_bare = figures.median_difference("ours", "bare");
    let typed_over_bare = figures.median_difference("typed", "bare");
    let share_of =
        |way: &str| by_round(&figures, |at| (at(way) - at("bare")) / (at("arc-swap") - at("bare")));
    let (share, typed_share) = (share_of("ours"), share_of("typed"));
    let scaling = |threads: &str| {
        let slope = |at: &dyn Fn(&str) -> f64, way: &str| at(way) / at(&format!("{way}, {threads} threads"));
        by_round(&figures, |at| slope(at, "ours") / slope(at, "bare"))
    };
    report.target("ours over bare", over_bare, "ns", Limit::AtMost(1.5));
    report.target("share of arc-swap's cost", share, "ratio", Limit::AtMost(0.15));
    let keyed = figures.median_difference("ours, keyed, 5 % split", "bare");
    report.target("keyed call during a split, over bare", keyed, "ns", Limit::AtMost(10.0));
    report.target("typed over bare", typed_over_bare, "ns", Limit::AtMost(1.5));
    report.target("typed share of arc-swap's cost", typed_share, "ratio", Limit::AtMost(0.15));
    report.target("scaling to two threads over bare's", scaling("2"), "ratio", Limit::AtLeast(0.95));
    report.target("scaling to four threads over bare's", scaling("4"), "ratio", Limit::AtLeast(0.95));
    let threads = [(slot.counters(), 1 + 2 + 4), (plugin.counters(), 1 + 2)];
    for (counters, threads) in threads {
        let calls = CALLS * threads * (ROUNDS as u64 + 1);
        assert_eq!(counters.calls, calls, "every call was counted for its version");
    }
    // Dropping a retired version leaves its library mapped: nothing is unloaded
    // here, while `bare` still points into it.
    drop(slot.withdraw());
    report.finish()
}

/// The median over the rounds of what is made of each round's figures.
fn by_round(figures: &Rounds<'_>, figure: impl Fn(&dyn Fn(&str) -> f64) -> f64) -> f64 {
    let rounds = (0..ROUNDS).map(|round| figure(&|name| figures.samples(name)[round]));
    median(&rounds.collect::<Vec<_>>())
}

fn open(stager: &Stager) -> Loaded {
    let staged = stager.stage(&artifacts::plugin("bench-target")).expect("stages");
    Loaded::open(staged.copy).expect("loads")
}

fn version(loaded: Loaded) -> Version<Resolved> {
    let row = loaded.interfaces().find(|row| row.id() == ID).expect("offers the interface");
    let vtable = row.vtable::<AddVtableRef>(VERSION).expect("fits");
    // SAFETY: the layout of this very type was checked in the line above.
    let vtable = unsafe { std::mem::transmute::<*const c_void, AddVtableRef>(vtable) };
    Version::new(Resolved { add: vtable.add(), state: 7, loaded }).expect("an index is free")
}

fn print(report: &mut Report, figures: &Rounds<'_>) {
    for (threads, suffix) in [(1, ""), (2, ", 2 threads"), (4, ", 4 threads")] {
        report.table(&format!("ns per call, {threads} threads, median of {ROUNDS} rounds"));
        let ways: &[&str] = match threads {
            1 => &["bare", "ours", "typed", "arc-swap", "ours, keyed, 5 % split", "ours, 5 % split"],
            2 => &["bare", "ours", "typed", "arc-swap"],
            _ => &["bare", "ours", "arc-swap"],
        };
        for way in ways {
            let (name, bare) = (format!("{way}{suffix}"), format!("bare{suffix}"));
            report.row(&[
                ("way", Cell::from(*way)),
                ("ns", Cell::from(figures.median(&name))),
                ("over bare", Cell::from(figures.median_difference(&name, &bare))),
            ]);
        }
    }
}

/// Nanoseconds per call of one thread, by the rate of all of them together.
fn time(threads: usize, call: &(impl Fn(u64) -> u64 + Sync)) -> f64 {
    let rate = |(begun, ended): (Instant, Instant)| CALLS as f64 / (ended - begun).as_nanos() as f64;
    threads as f64 / spans(threads, call).into_iter().map(rate).sum::<f64>()
}

/// The same with more threads than cores, by the time of all of them together: a
/// thread's own time does not show how long it waited to begin.
fn time_of_all(threads: usize, call: &(impl Fn(u64) -> u64 + Sync)) -> f64 {
    let (begun, ended): (Vec<_>, Vec<_>) = spans(threads, call).into_iter().unzip();
    let wall = ended.iter().max().zip(begun.iter().min()).map(|(ended, begun)| *ended - *begun);
    wall.expect("at least one thread").as_nanos() as f64 / CALLS as f64
}

/// When each thread began and ended; each makes [`CALLS`] calls.
fn spans(threads: usize, call: &(impl Fn(u64) -> u64 + Sync)) -> Vec<(Instant, Instant)> {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let begun = Instant::now();
                    let mut sum = 0_u64;
                    for x in 0..CALLS {
                        sum = sum.wrapping_add(call(black_box(x)));
                    }
                    black_box(sum);
                    (begun, Instant::now())
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
    })
}

#[inline(always)]
fn call(add: Add, state: &u64, x: u64) -> u64 {
    let mut out = 0;
    // SAFETY: both pointers are to numbers that live during the call; the
    // library stays mapped until the process ends.
    let status = unsafe { add(state, x, &mut out) };
    if status.is_ok() { out } else { 0 }
}
