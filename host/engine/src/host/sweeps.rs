//! Sweeps: threads that bring the rows of a plugin's tables to the schema of the
//! version that serves, beside its calls.
//!
//! long: what a sweep does and when it begins, rests and ends are one account.
//!
//! A sweep works in batches of some microseconds each and lets go of everything
//! in between. While calls are made it rests as long as it works, so that it
//! never takes more than half a core from them. It can be paused, ends when
//! another version serves, and begins anew with that one. After one that failed
//! the next one waits for a while.

use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease, SlotState},
    event::{EventKind, EventLog, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    load::HookError,
    pipeline::{BATCH_ROWS, Converting, convert},
    service::{Entry, Serving},
    table::{Batch, Progress, Report, Sweep, TableError, View},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The label of the leases under which rows are converted.
const SWEEP: &str = "sweep";
/// How often a sweep that is paused looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a sweep waits after one that was of no use, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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
    ended: Arc<OnceLock<Ended>>,
    progress: Arc<Mutex<Vec<Swept>>>,
    converting: Arc<Converting>,
    /// That a step does not return was said.
    is_known_stuck: bool,
    told: Arc<Mutex<BTreeMap<String, FailureReport>>>,
    /// How long the next one waits if this one is of no use.
    pause: Duration,
    /// None if there was no thread to be had.
    thread: Option<JoinHandle<()>>,
}

/// When a sweep ended, and how.
struct Ended {
    outcome: Outcome,
    at: Instant,
}

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It went over all rows.
    Over,
    /// It did too, and values that do not count are still written.
    Unfinished,
    /// Something failed.
    Failed,
    /// Another version serves, or none, or it was stopped.
    Left,
}

/// What a sweep does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepKind {
    /// All that is to be done once its version is committed.
    Convert,
    /// What needs no plugin, before: a store is told the rows that it lacks.
    Tell,
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
    /// `entry`; after `before`, which was for the same one.
    pub(super) fn start(
        events: &Arc<EventLog>,
        pauses: &Arc<Pauses>,
        entry: &Arc<Entry>,
        serving: &Lease<Serving>,
        kind: SweepKind,
        before: Option<&TableSweep>,
    ) -> TableSweep {
        let tables = serving.tables().all();
        let views: Vec<Arc<View>> = tables.iter().map(|open| Arc::clone(open.view())).collect();
        let work = Work {
            events: Arc::clone(events),
            pauses: Arc::clone(pauses),
            entry: Arc::clone(entry),
            id: serving.id().clone(),
            kind,
            stop: Arc::default(),
            progress: Arc::default(),
            converting: Arc::default(),
            told: before.map(|before| Arc::clone(&before.told)).unwrap_or_default(),
        };
        let ended = Arc::<OnceLock<Ended>>::default();
        let mut sweep = TableSweep {
            id: work.id.clone(),
            stop: Arc::clone(&work.stop),
            ended: Arc::clone(&ended),
            progress: Arc::clone(&work.progress),
            converting: Arc::clone(&work.converting),
            is_known_stuck: false,
            told: Arc::clone(&work.told),
            pause: before.map_or(FIRST_PAUSE, TableSweep::next_pause),
            thread: None,
        };
        let work = Arc::new(work);
        let inside = Arc::clone(&work);
        let thread = thread::Builder::new().name("replug-sweep".to_owned()).spawn(move || {
            // A panic is told by its hook; here it is a sweep that failed.
            let outcome = catch_unwind(AssertUnwindSafe(|| inside.run(&views)));
            _ = ended.set(Ended::now(outcome.unwrap_or(Outcome::Failed)));
        });
        match thread {
            Ok(thread) => {
                tracing::debug!(version = %work.id, "a sweep of tables begins");
                sweep.thread = Some(thread);
            }
            Err(error) => {
                let message = format!("no thread to sweep the tables of {}: {error}", work.id.name);
                work.problem("", FailureReport::with_code(Code::HostThread, message));
                _ = sweep.ended.set(Ended::now(Outcome::Failed));
            }
        }
        sweep
    }

    /// The version that it is for.
    pub(super) fn version(&self) -> &VersionId {
        &self.id
    }

    /// Whether it has ended and left something to another sweep, which may begin
    /// by now; `has_work` if there is something to be done.
    pub(super) fn is_due(&self, has_work: bool, now: Instant) -> bool {
        self.ended.get().is_some_and(|ended| ended.is_due(has_work, self.pause, now))
    }

    fn next_pause(&self) -> Duration {
        self.ended.get().map_or(FIRST_PAUSE, |ended| ended.outcome.pause_after(self.pause))
    }

    pub(super) fn progress(&self) -> Vec<Swept> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the batch that it is at.
    fn stop(&self) {
        // Relaxed: it looks again soon, whenever that is.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether a row has been in a step for longer than this.
    fn is_stuck(&self, after: Duration) -> bool {
        !self.is_finished() && self.converting.is_stuck(after)
    }

    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// The sweeps of a host.
#[derive(Default)]
pub(super) struct Sweeps {
    /// That of each plugin's tables, until another takes its place.
    current: BTreeMap<PluginName, TableSweep>,
    /// Those that were stopped and may be at their last batch yet.
    stopped: Vec<TableSweep>,
}

impl Sweeps {
    pub(super) fn get(&self, name: &PluginName) -> Option<&TableSweep> {
        self.current.get(name)
    }

    pub(super) fn insert(&mut self, name: &PluginName, sweep: TableSweep) {
        self.stop(name);
        self.current.insert(name.clone(), sweep);
    }

    /// Ends the sweep of a plugin's tables, if there is one.
    pub(super) fn stop(&mut self, name: &PluginName) {
        self.stopped.retain(|sweep| !sweep.is_finished());
        if let Some(sweep) = self.current.remove(name) {
            sweep.stop();
            self.stopped.push(sweep);
        }
    }

    /// Ends all of them.
    pub(super) fn stop_all(&mut self) {
        self.current.values().for_each(TableSweep::stop);
        self.stopped.extend(std::mem::take(&mut self.current).into_values());
    }

    /// Whether a sweep for a version is in a step that does not return.
    pub(super) fn is_stuck(&self, name: &PluginName, id: &VersionId, after: Duration) -> bool {
        let of_plugin = self.current.get(name).into_iter().chain(&self.stopped);
        of_plugin.into_iter().any(|sweep| sweep.id == *id && sweep.is_stuck(after))
    }

    /// The versions of those that have been found to be since this was asked last.
    pub(super) fn newly_stuck(&mut self, after: Duration) -> Vec<VersionId> {
        let mut found = Vec::new();
        for sweep in self.current.values_mut().chain(&mut self.stopped) {
            if !sweep.is_known_stuck && sweep.is_stuck(after) {
                sweep.is_known_stuck = true;
                found.push(sweep.id.clone());
            }
        }
        found
    }

    /// Whether those that were stopped have ended.
    pub(super) fn have_ended(&mut self) -> bool {
        for sweep in self.stopped.extract_if(.., |sweep| sweep.is_finished()) {
            // It catches its panics.
            let _ = sweep.thread.map(JoinHandle::join);
        }
        self.stopped.is_empty()
    }
}

impl Outcome {
    fn pause_after(self, pause: Duration) -> Duration {
        match self {
            Outcome::Failed | Outcome::Unfinished => (pause * 2).min(LONGEST_PAUSE),
            Outcome::Over | Outcome::Left => FIRST_PAUSE,
        }
    }
}

impl Ended {
    fn now(outcome: Outcome) -> Ended {
        Ended { outcome, at: Instant::now() }
    }

    fn is_due(&self, has_work: bool, pause: Duration, now: Instant) -> bool {
        let has_rested = || now.duration_since(self.at) >= pause;
        match self.outcome {
            // Come since.
            Outcome::Over => has_work,
            Outcome::Unfinished => has_work && has_rested(),
            Outcome::Failed => has_rested(),
            // Its version serves again, or this would not be asked.
            Outcome::Left => true,
        }
    }
}

/// What the thread of a sweep has.
struct Work {
    events: Arc<EventLog>,
    pauses: Arc<Pauses>,
    entry: Arc<Entry>,
    id: VersionId,
    kind: SweepKind,
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Vec<Swept>>>,
    converting: Arc<Converting>,
    /// The last failure of each table: it is told once, however often it is met.
    told: Arc<Mutex<BTreeMap<String, FailureReport>>>,
}

/// Why the sweep of a table ended.
enum End {
    /// It went over all rows, in this time.
    Over(Report, Duration),
    /// Another version serves, or none.
    Left,
}

impl Work {
    fn run(&self, views: &[Arc<View>]) -> Outcome {
        all_of(views, |view| self.sweep_table(view))
    }

    fn sweep_table(&self, view: &Arc<View>) -> Outcome {
        let begin = match self.kind {
            SweepKind::Convert => Sweep::new,
            SweepKind::Tell => Sweep::without_plugin,
        };
        let (name, mut sweep, mut failed) = (view.table().name(), begin(view), None);
        let (report, worked) = match self.sweep(&mut sweep, &mut failed) {
            Ok(End::Over(report, worked)) => (report, worked),
            Ok(End::Left) | Err(TableError::NotActive { .. }) => return Outcome::Left,
            Err(error) => {
                self.problem(name, FailureReport::of(&error));
                return Outcome::Failed;
            }
        };
        self.note(view, report.progress, worked, true);
        if let Some(error) = failed {
            self.problem(name, FailureReport::of(&error));
        }
        let Progress { rows_done, converted, repaired, left, .. } = report.progress;
        if converted + repaired + left > 0 {
            let (table, millis) = (name.to_owned(), worked.as_millis() as u64);
            self.event(EventKind::TableSwept { table, rows: rows_done, converted, left, millis });
        }
        if view.table().record().voids.is_empty() { Outcome::Over } else { Outcome::Unfinished }
    }

    fn sweep(&self, sweep: &mut Sweep, failed: &mut Option<HookError>) -> Result<End, TableError> {
        let (mut calls, mut worked) = (0, Duration::ZERO);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(End::Left);
            }
            // Also for what needs no plugin: of a version that has left the images
            // may be all that counts.
            let Some(lease) = self.lease() else { return Ok(End::Left) };
            if self.pauses.contains(&self.id.name) {
                drop(lease);
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
                let entered =
                    lease.enter(|entered| convert(entered.payload(), sweep, &rows, &self.converting));
                // Refused is a thread too many: the rows are found again.
                if let Ok(converted) = entered {
                    let first = converted?;
                    *failed = failed.take().or(first);
                }
            }
            drop(lease);
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

    /// The version, if it still serves: not behind a sealed gate, where its state is
    /// on its way out. A gate that is sealed later is not before this is dropped.
    fn lease(&self) -> Option<Lease<Serving>> {
        let lease = self.entry.slot.look(Holder::new(SWEEP, monotonic_ns()))?;
        let is_sealed = matches!(self.entry.slot.state(), SlotState::Sealed(_));
        (*lease.id() == self.id && !is_sealed).then_some(lease)
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

    fn problem(&self, table: &str, failure: FailureReport) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(table) == Some(&failure) {
            return;
        }
        told.insert(table.to_owned(), failure.clone());
        drop(told);
        self.event(EventKind::StateProblem { failure });
    }

    fn event(&self, kind: EventKind) {
        self.events.write(Some(self.id.name.to_string()), Some(self.id.to_string()), kind);
    }
}

/// Sweeps each table, whatever became of the others, as long as the version
/// serves.
fn all_of<T>(tables: &[T], mut sweep: impl FnMut(&T) -> Outcome) -> Outcome {
    let mut worst = Outcome::Over;
    for table in tables {
        worst = worst.max(sweep(table));
        if worst == Outcome::Left {
            break;
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    #[test]
    fn a_table_that_fails_does_not_end_the_sweep_of_the_others() {
        let mut swept = Vec::new();
        let mut sweep = |outcomes: &[Outcome]| {
            swept.clear();
            let outcome = all_of(outcomes, |outcome| {
                swept.push(*outcome);
                *outcome
            });
            (outcome, swept.len())
        };
        assert_eq!(sweep(&[Outcome::Failed, Outcome::Unfinished, Outcome::Over]), (Outcome::Failed, 3));
        assert_eq!(sweep(&[Outcome::Unfinished, Outcome::Over]), (Outcome::Unfinished, 2));
        assert_eq!(sweep(&[Outcome::Over, Outcome::Left, Outcome::Over]), (Outcome::Left, 2));
        assert_eq!(sweep(&[]), (Outcome::Over, 0));
    }

    #[test]
    fn a_sweep_that_failed_begins_again_after_a_pause_and_one_that_left_at_once() {
        let due = |outcome, has_work, passed: Duration| {
            let ended = Ended::now(outcome);
            ended.is_due(has_work, FIRST_PAUSE, ended.at + passed)
        };
        let soon = FIRST_PAUSE - Duration::from_millis(1);
        assert!(due(Outcome::Left, false, Duration::ZERO));
        assert!(!due(Outcome::Failed, true, soon) && due(Outcome::Failed, false, FIRST_PAUSE));
        assert!(!due(Outcome::Unfinished, true, soon) && due(Outcome::Unfinished, true, FIRST_PAUSE));
        assert!(!due(Outcome::Unfinished, false, LONGEST_PAUSE), "there is nothing left to do");
        assert!(due(Outcome::Over, true, Duration::ZERO) && !due(Outcome::Over, false, LONGEST_PAUSE));
    }

    #[test]
    fn sweeps_that_were_stopped_are_waited_for() {
        let (let_end, at_its_last_batch) = std::sync::mpsc::channel::<()>();
        let sweep = TableSweep {
            id: VersionId {
                name: "notes".parse().expect("a name"),
                version: "1.0.0".parse().expect("a version"),
                digest: Digest::of(b""),
            },
            stop: Arc::default(),
            ended: Arc::default(),
            progress: Arc::default(),
            converting: Arc::default(),
            is_known_stuck: false,
            told: Arc::default(),
            pause: FIRST_PAUSE,
            thread: Some(thread::spawn(move || assert!(at_its_last_batch.recv().is_err()))),
        };
        let (name, stop) = (sweep.id.name.clone(), Arc::clone(&sweep.stop));
        let mut sweeps = Sweeps::default();
        sweeps.insert(&name, sweep);
        assert!(sweeps.have_ended() && !stop.load(Ordering::Relaxed), "none was stopped");
        sweeps.stop(&name);
        sweeps.stop_all();
        assert!(stop.load(Ordering::Relaxed) && sweeps.get(&name).is_none());
        assert!(!sweeps.have_ended());
        drop(let_end);
        let until = Instant::now() + Duration::from_secs(20);
        while !sweeps.have_ended() {
            assert!(Instant::now() < until, "it has ended");
            thread::yield_now();
        }
    }

    #[test]
    fn pauses_of_sweeps_that_are_of_no_use_double_up_to_a_minute() {
        let mut pauses = vec![FIRST_PAUSE];
        for _ in 0..7 {
            pauses.push(Outcome::Failed.pause_after(pauses[pauses.len() - 1]));
        }
        assert_eq!(pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(Outcome::Over.pause_after(LONGEST_PAUSE), FIRST_PAUSE);
    }
}
