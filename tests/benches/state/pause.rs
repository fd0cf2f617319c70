//! The longest call while the rows of the sample plugin `sessions` get another
//! shape, beside that of an equally long window in which those of another host do,
//! and how fast the rows are swept.
//!
//! What counts is the longest call of a window in which the caller kept its core
//! (`callers`), as the median over the windows; the longest of all stands beside
//! it. In the window of the control arm the caller calls the same plugin, and the
//! change is made in a host with as many rows that nobody calls: what a change costs
//! the machine is in both arms, and what it costs the caller in one. The arms take
//! turns, and so do numbers of rows, because the machine below a virtual one takes
//! cores away too, and nobody counts that. Two windows are looked at: the *swap*,
//! from the command until the tables are committed, in which a pause would lie that
//! grows with the rows; and the *upgrade*, until the last row is swept: in the
//! control arm that is before the end of the window, since no caller slows it down.

use crate::callers::{self, Seen};
use replug_host::{Plugin, event::EventKind, id::PluginName};
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    report::{Cell, Limit, Report, median, percentile},
};
use serde_json::json;
use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) const FILLS: [u64; 4] = [1, 1_000, 100_000, 1_000_000];
const FEW: u64 = FILLS[1];
const MANY: u64 = FILLS[3];
/// Times that the plugin goes from 1.0.0 over 2.0.0 to 3.0.0 and back, with its
/// rows swept, and without.
const UPGRADES: usize = 4;
const SWAPS: usize = 15;
/// What a caller's calls are looked at for at least.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// Between two looks at a sweep.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn measure(report: &mut Report) {
    let mut fills: Vec<Measured> = FILLS.into_iter().map(Measured::filled).collect();
    for _ in 0..UPGRADES {
        fills.iter_mut().for_each(Measured::upgrade);
    }
    for _ in 0..SWAPS {
        fills.iter_mut().for_each(Measured::swap);
    }
    print(report, &fills);
    let longest = |rows, of: Of| {
        let fill = fills.iter().find(|fill| fill.store.rows == rows).expect("is measured");
        (of(fill).longest(Arm::Changed), of(fill).longest(Arm::Control))
    };
    let ((swap, swap_control), (few, _)) = (longest(MANY, SWAP), longest(FEW, SWAP));
    let (upgrade, upgrade_control) = longest(MANY, UPGRADE);
    let mut target = |name, us, most| report.target(name, us, "us", Limit::AtMost(most));
    target("longest call, core kept: upgrade of 1M rows over control", upgrade - upgrade_control, 1_000.0);
    target("the same: swap at 1M rows over control", swap - swap_control, 1_000.0);
    target("the same: swap at 1M rows over swap at 1,000 rows", swap - few, 250.0);
    for Measured { store, beside, .. } in fills {
        [store, beside].into_iter().for_each(|store| drop(store.harness.shutdown()));
    }
}

fn print(report: &mut Report, fills: &[Measured]) {
    for (what, of) in [("swaps", SWAP), ("upgrades", UPGRADE)] {
        let count = of(&fills[0]).changed.len();
        report.table(&format!("calls of one caller, us: {count} {what}, and as many beside it; medians"));
        fills.iter().for_each(|fill| of(fill).report(report, fill.store.rows));
    }
    report.table("rows of a table swept in a second, median");
    for fill in fills.iter().filter(|fill| fill.store.rows > FEW) {
        report.row(&[
            ("rows", fill.store.rows.into()),
            ("nobody calls", median(&fill.idle_rates).into()),
            ("one caller", median(&fill.called_rates).into()),
        ]);
    }
}

type Of = fn(&Measured) -> &Windows;
const SWAP: Of = |fill| &fill.swaps;
const UPGRADE: Of = |fill| &fill.upgrades;

/// What was seen at a number of rows.
struct Measured {
    store: Store,
    /// As many rows, which nobody calls.
    beside: Store,
    swaps: Windows,
    upgrades: Windows,
    /// Rows swept in a second.
    called_rates: Vec<f64>,
    idle_rates: Vec<f64>,
}

impl Measured {
    fn filled(rows: u64) -> Measured {
        let (swaps, upgrades) = (Windows::default(), Windows::default());
        let (called_rates, idle_rates) = (Vec::new(), Vec::new());
        let (store, beside) = (Store::filled(rows), Store::filled(rows));
        Measured { store, beside, swaps, upgrades, called_rates, idle_rates }
    }

    /// From 1.0.0 over 2.0.0 to 3.0.0 with a caller, and to 2.0.0 without.
    fn upgrade(&mut self) {
        for to in [2, 3] {
            let rate = self.upgrades.look(&mut self.store, |store| store.upgrade(to));
            self.called_rates.push(rate);
            self.upgrades.look_beside(&self.store, || _ = self.beside.upgrade(to));
        }
        self.beside.upgrade(1);
        self.store.upgrade(1);
        self.idle_rates.push(self.store.upgrade(2));
        self.store.upgrade(1);
    }

    /// The same, and what is not swept is converted when it is read: the caller
    /// does it all. The way back waits for a sweep, so that is not held up.
    fn swap(&mut self) {
        let both = [&self.store, &self.beside];
        both.into_iter().for_each(|store| store.pause_sweep(true));
        for to in [2, 3] {
            self.swaps.look(&mut self.store, |store| store.swap(to));
            self.swaps.look_beside(&self.store, || self.beside.swap(to));
        }
        for store in [&mut self.store, &mut self.beside] {
            store.pause_sweep(false);
            store.swap(1);
        }
    }
}

/// Windows in which a version was swapped, and after each an equally long one in
/// which that was done beside it.
#[derive(Default)]
struct Windows {
    changed: Vec<Seen>,
    control: Vec<Seen>,
    times: Vec<Duration>,
}

#[derive(Clone, Copy)]
enum Arm {
    Changed,
    Control,
}

impl Windows {
    fn look<T>(&mut self, store: &mut Store, change: impl FnOnce(&mut Store) -> T) -> T {
        let (sessions, rows) = (store.sessions.clone(), store.rows);
        let ((result, time), changed) = callers::during(&sessions, rows, || {
            let begun = Instant::now();
            let result = change(store);
            // sleep: rare calls are looked for, and there have to be enough.
            thread::sleep(WINDOW_MIN.saturating_sub(begun.elapsed()));
            (result, begun.elapsed())
        });
        self.changed.push(changed);
        self.times.push(time);
        result
    }

    /// As long a window as the last one, in which `change` is made to another store.
    fn look_beside(&mut self, store: &Store, change: impl FnOnce()) {
        let time = *self.times.last().expect("looked at before");
        let ((), control) = callers::during(&store.sessions, store.rows, || {
            let begun = Instant::now();
            change();
            // sleep: the windows are to be equally long.
            thread::sleep(time.saturating_sub(begun.elapsed()));
        });
        self.control.push(control);
    }

    fn of(&self, arm: Arm, figure: impl Fn(&Seen) -> f64) -> Vec<f64> {
        let windows = match arm {
            Arm::Changed => &self.changed,
            Arm::Control => &self.control,
        };
        windows.iter().map(figure).collect()
    }

    /// The longest call of a window in which the caller kept its core, as the
    /// median over the windows, in microseconds.
    fn longest(&self, arm: Arm) -> f64 {
        median(&self.of(arm, Seen::longest_kept_us))
    }

    fn report(&self, report: &mut Report, rows: u64) {
        let ms: Vec<f64> = self.times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        for (name, arm) in [("changed", Arm::Changed), ("control", Arm::Control)] {
            report.row(&[
                ("rows", rows.into()),
                ("arm", Cell::from(name)),
                ("window, ms", median(&ms).into()),
                ("median", median(&self.of(arm, |seen| seen.quantile_us(0.5))).into()),
                ("p99.99", median(&self.of(arm, |seen| seen.quantile_us(0.9999))).into()),
                ("longest, core kept", self.longest(arm).into()),
                ("longest", median(&self.of(arm, Seen::longest_us)).into()),
                ("longest of all", percentile(&self.of(arm, Seen::longest_us), 100.0).into()),
                ("waits", median(&self.of(arm, |seen| seen.switches.waits as f64)).into()),
                ("turns lost", median(&self.of(arm, |seen| seen.switches.forced as f64)).into()),
            ]);
        }
    }
}

/// The plugin, with its sessions.
struct Store {
    harness: Harness,
    sessions: Plugin,
    rows: u64,
    dropped: u64,
}

impl Store {
    fn filled(rows: u64) -> Store {
        let harness = Harness::new();
        let sessions = harness.plugin("sessions");
        let mut store = Store { harness, sessions, rows, dropped: 0 };
        store.swap(1);
        let fill = json!({ "from": 0, "count": rows }).to_string();
        store.sessions.call("fill", fill.as_bytes()).expect("there is room");
        store
    }

    /// Until the version serves and its tables are committed. It is dropped the
    /// first time, and chosen from then on.
    fn swap(&mut self, to: u64) {
        let version = format!("{to}.0.0");
        if self.dropped < to {
            let library = artifacts::plugin(&format!("sessions-v{to}"));
            let (file, id) = (format!("sessions-{version}.so"), format!("sessions@{version}"));
            self.harness.deploy(&library, &file, &id);
            self.dropped = to;
        } else {
            self.harness.activate("sessions", &version).expect("serves");
        }
        self.harness.expect("the commit", |event| {
            matches!(event.kind, EventKind::TablesCommitted) && is(event, &format!("sessions@{version}"))
        });
    }

    fn pause_sweep(&self, pause: bool) {
        self.harness.host.pause_sweep(&name(), pause);
    }

    /// As [`swap`](Self::swap), until its rows are swept; returns how many were in a second.
    fn upgrade(&mut self, to: u64) -> f64 {
        self.swap(to);
        self.swept()
    }

    /// Waits until no table is being swept; returns how many sessions were in a
    /// second.
    fn swept(&self) -> f64 {
        loop {
            // sleep: between two looks; to look all the time would slow callers.
            thread::sleep(LOOK_EVERY);
            let status = self.harness.host.status();
            let tables = &status.plugin("sessions").expect("is known").tables;
            if !tables.iter().all(|table| table.sweep.as_ref().is_some_and(|sweep| sweep.done)) {
                continue;
            }
            let sessions = tables.iter().find(|table| table.name == "sessions").expect("is open");
            return sessions.sweep.as_ref().expect("as just seen").rows_per_s;
        }
    }
}

fn name() -> PluginName {
    "sessions".parse().expect("a name")
}
