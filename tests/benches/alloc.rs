//! What the allocation ledger costs a plugin: the same code with the ledger and
//! with the system's allocator, called without a host in between.
//!
//! Blocks of one size that are freed at once are the allocator's fastest path
//! and so the ledger's largest share; the mixed sizes are held in a random
//! order, as a program holds them.

use replug_host::{
    artifact::stage::{StageLimits, Stager},
    load::Loaded,
};
use replug_tests::{
    artifacts,
    report::{Cell, Limit, Report, rounds},
    symbol::symbol,
};
use std::{ffi::CStr, process::ExitCode, sync::Barrier, thread, time::Instant};

const ROUNDS: usize = 21;
/// Pairs of one allocation and one free in a round, for each thread.
const PAIRS: u64 = 500_000;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// A symbol of `bench-target`: so many pairs, of a size or by a seed.
type Drive = extern "C" fn(u64, u64) -> i32;

/// What is measured: a name, the symbol, its second argument.
const WORKLOADS: [(&str, &CStr, u64); 5] = [
    ("16 bytes", c"alloc_churn", 16),
    ("64 bytes", c"alloc_churn", 64),
    ("1 KiB", c"alloc_churn", 1024),
    ("64 KiB", c"alloc_churn", 64 * 1024),
    ("1 to 4096 bytes, held", c"alloc_mixed", SEED),
];

fn main() -> ExitCode {
    let store = tempfile::tempdir().expect("a directory");
    let stager = Stager::new(store.path().join("private"), StageLimits::default()).expect("the store");
    let open = |package| {
        let staged = stager.stage(&artifacts::plugin(package)).expect("stages");
        Loaded::open(staged.copy).expect("loads")
    };
    // Neither is closed: both stay mapped until the process ends.
    let (ledger, system) = (open("bench-target"), open("bench-target-system"));
    let mut report = Report::new("alloc");
    for threads in [1, 2] {
        report.table(&format!("ns per allocation and free, {threads} threads, median of {ROUNDS} rounds"));
        let mut most = f64::MIN;
        for (workload, name, argument) in WORKLOADS {
            let (ledger, system) = (drive(&ledger, name), drive(&system, name));
            let figures = rounds(
                ROUNDS,
                &mut [
                    ("ledger", &mut || time(threads, ledger, argument)),
                    ("system", &mut || time(threads, system, argument)),
                ],
            );
            let over = figures.median_difference("ledger", "system");
            report.row(&[
                ("blocks", workload.into()),
                ("ledger", Cell::from(figures.median("ledger"))),
                ("system", Cell::from(figures.median("system"))),
                ("over system", over.into()),
            ]);
            most = most.max(over);
        }
        let target = format!("ledger over system, {threads} threads, the worst");
        report.target(&target, most, "ns", Limit::AtMost(5.0));
    }
    report.finish()
}

fn drive(loaded: &Loaded, name: &CStr) -> Drive {
    let symbol = symbol(loaded, name).expect("the library exports it");
    // SAFETY: `bench-target` documents it to be of this type.
    unsafe { std::mem::transmute::<*mut std::ffi::c_void, Drive>(symbol.as_ptr()) }
}

/// Nanoseconds per pair, each thread making [`PAIRS`] of them.
fn time(threads: usize, drive: Drive, argument: u64) -> f64 {
    let start = Barrier::new(threads);
    let slowest = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let begun = Instant::now();
                    assert_eq!(drive(PAIRS, argument), 0, "it does not panic");
                    begun.elapsed()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("does not panic")).max()
    });
    slowest.unwrap_or_default().as_nanos() as f64 / PAIRS as f64
}
