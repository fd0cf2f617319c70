//! Sweeps: threads that bring the rows of a plugin's tables to the schema of the
//! version that serves, beside its calls.
//!
//! A sweep works in batches of some microseconds each and lets go of everything
//! in between. While calls are made it rests as long as it works, so that it
//! never takes more than half a core from them. It can be paused, ends when
//! another version serves, and begins anew with that one.

use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    event::{EventKind, EventLog, FailureReport},
    id::{PluginName, VersionId},
    load::HookError,
    pipeline::{BATCH_ROWS, convert},
    service::{Entry, Serving},
    table::{Batch, Progress, Report, Sweep, TableError, View},
};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The label of the leases under which rows are converted.
const SWEEP: &str = "sweep";
/// How often a sweep that is paused looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(20);

/// The plugins whose sweeps are paused, now and when another version serves.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<BTreeSet<PluginName>>);

impl Pauses {
    pub(super) fn contains(&self, name: &PluginName) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Pauses the sweep of a plugin's tables, or lets it go on.
    pub(super) fn set(&self, name: &PluginName, pause: bool) {
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pause {
            paused.insert(name.clone());
        } else {
            paused.remove(name);
        }
    }
}

/// The sweep of a plugin's tables for one version.
pub(super) struct TableSweep {
    id: VersionId,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicBool>,
    progress: Arc<Mutex<Vec<Swept>>>,
    thread: JoinHandle<()>,
}

/// How far the sweep of a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) table: String,
    pub(super) progress: Progress,
    /// How long it took so far, pauses left out.
    pub(super) worked: Duration,
    pub(super) done: bool,
}

impl TableSweep {
    /// Begins to sweep the tables of `serving`, which is the version that serves
    /// `entry`.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start(
        events: &Arc<EventLog>,
        pauses: &Arc<Pauses>,
        entry: &Arc<Entry>,
        serving: &Lease<Serving>,
    ) -> io::Result<TableSweep> {
        let tables = serving.tables().all();
        let views: Vec<Arc<View>> = tables.iter().map(|open| Arc::clone(open.view())).collect();
        let (stop, left) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let progress = Arc::<Mutex<Vec<Swept>>>::default();
        let id = serving.id().clone();
        let work = Work {
            events: Arc::clone(events),
            pauses: Arc::clone(pauses),
            entry: Arc::clone(entry),
            id: id.clone(),
            stop: Arc::clone(&stop),
            left: Arc::clone(&left),
            progress: Arc::clone(&progress),
        };
        let thread =
            thread::Builder::new().name("replug-sweep".to_owned()).spawn(move || work.run(&views))?;
        Ok(TableSweep { id, stop, left, progress, thread })
    }

    /// The version that it is for.
    pub(super) fn version(&self) -> &VersionId {
        &self.id
    }

    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it ended before its time, because its version served no more: if
    /// it does so again, what is left needs another sweep.
    pub(super) fn has_left(&self) -> bool {
        // Relaxed: looked at again soon; `is_done` orders it behind the thread.
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Vec<Swept> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the batch that it is at.
    pub(super) fn stop(self) {
        // Relaxed: it looks again soon, whenever that is.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What the thread of a sweep has.
struct Work {
    events: Arc<EventLog>,
    pauses: Arc<Pauses>,
    entry: Arc<Entry>,
    id: VersionId,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicBool>,
    progress: Arc<Mutex<Vec<Swept>>>,
}

/// Why a sweep of a table ended.
enum End {
    /// It went over all rows, in this time.
    Over(Report, Duration),
    /// Another version serves, or none.
    Left,
}

impl Work {
    fn run(&self, views: &[Arc<View>]) {
        for view in views {
            let (mut sweep, mut failed) = (Sweep::new(view), None);
            let (report, worked) = match self.sweep(&mut sweep, &mut failed) {
                Ok(End::Over(report, worked)) => (report, worked),
                // Rows may be repaired without a lease: it has just left.
                Ok(End::Left) | Err(TableError::NotActive { .. }) => {
                    return self.left.store(true, Ordering::Relaxed);
                }
                Err(error) => return self.problem(FailureReport::of(&error)),
            };
            self.note(view, report.progress, worked, true);
            if let Some(error) = failed {
                self.problem(FailureReport::of(&error));
            }
            let Progress { rows_done, converted, repaired, left, .. } = report.progress;
            if converted + repaired + left > 0 {
                let (table, millis) = (view.table().name().to_owned(), worked.as_millis() as u64);
                self.event(EventKind::TableSwept { table, rows: rows_done, converted, left, millis });
            }
        }
    }

    fn sweep(&self, sweep: &mut Sweep, failed: &mut Option<HookError>) -> Result<End, TableError> {
        let (mut calls, mut worked) = (0, Duration::ZERO);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(End::Left);
            }
            if self.pauses.contains(&self.id.name) {
                // Nothing tells when it may go on, and nothing waits for it.
                thread::sleep(PAUSE);
                continue;
            }
            let working = Instant::now();
            let batch = sweep.next_batch(BATCH_ROWS)?;
            let rows = match batch {
                Batch::End(report) => return Ok(End::Over(report, worked + working.elapsed())),
                Batch::Rows(rows) => rows,
            };
            if !rows.is_empty() {
                let Some(lease) = self.lease() else { return Ok(End::Left) };
                let entered = lease.enter(|entered| convert(entered.payload(), sweep, &rows));
                // Refused is a thread too many: the rows are found again.
                if let Ok(converted) = entered {
                    let first = converted?;
                    *failed = failed.take().or(first);
                }
            }
            sweep.wait()?;
            worked += working.elapsed();
            self.note(sweep.view(), sweep.progress(), worked, false);
            let made = self.entry.slot.counters().calls;
            if made != calls {
                calls = made;
                let rest = working.elapsed();
                thread::sleep(rest);
                worked += rest;
            }
        }
    }

    /// The version, if it still serves.
    fn lease(&self) -> Option<Lease<Serving>> {
        let lease = self.entry.slot.look(Holder::new(SWEEP, monotonic_ns()))?;
        (*lease.id() == self.id).then_some(lease)
    }

    fn note(&self, view: &View, progress: Progress, worked: Duration, done: bool) {
        let table = view.table().name();
        let mut all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = Swept { table: table.to_owned(), progress, worked, done };
        match all.iter_mut().find(|swept| swept.table == table) {
            Some(known) => *known = swept,
            None => all.push(swept),
        }
    }

    fn problem(&self, failure: FailureReport) {
        self.event(EventKind::StateProblem { failure });
    }

    fn event(&self, kind: EventKind) {
        self.events.write(Some(self.id.name.to_string()), Some(self.id.to_string()), kind);
    }
}
