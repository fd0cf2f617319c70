//! Bringing rows within the reach of an earlier version, before it is deployed:
//! the version that serves makes images of all of them, beside its calls.
//!
//! That takes as long as there are rows, and is paused as sweeps are. Meanwhile
//! the version waits, prepared, and the command loop serves the other plugins.
//! Nothing is committed here: a descent that is given up, or cut short by the
//! end of the process, leaves the tables as they were. Nor does the loop wait here
//! for the disks that tables are kept on or for a step that does not return: such
//! a thread is left to itself, under a lease that shows where it is.

use super::{
    control::Control,
    job::Job,
    shared::Shared,
    sweeps::{Pauses, Swept},
    waiting::{Descending, DescentProgress, DescentWork, Done, Prepared, Trying},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    event::FailureReport,
    failure::Code,
    id::{PluginName, VersionId},
    load::{Hook, HookError, HookErrorKind},
    pipeline::{BATCH_ROWS, Converting, DeployError, Descent, Loss, convert},
    service::{Entry, Serving},
    table::{Batch, Progress, Sweep, TableError, View},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The label of the leases under which rows are turned back.
const DESCENT: &str = "descent";
/// How often a descent that is paused looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(20);
/// Passes over a table, each of which finds what was written during the last.
const PASSES_MAX: usize = 8;

impl Control {
    /// Begins to bring rows within the reach of a version, which is deployed when
    /// that is done.
    pub(super) fn descend(
        &mut self,
        id: &VersionId,
        prepared: Prepared,
        descent: Descent,
    ) -> Result<(), DeployError> {
        let descent = Arc::new(descent);
        let from = serving(&prepared.entry).map(|serving| serving.id().clone());
        let work = Work::new(&self.shared, &prepared.entry, from.clone(), self.options.allow_state_loss);
        let (stop, converting, inside) =
            (Arc::clone(&work.stop), Arc::clone(&work.converting), Arc::clone(&descent));
        let started = self.nothing_hangs(&id.name, from.as_ref(), &descent).and_then(|()| {
            self.shared.descents.begin(&id.name);
            let job = Job::start("replug-descent", self.shared.nudger(), move || work.run(&inside));
            job.map_err(DeployError::Thread)
        });
        match started {
            Ok(job) => {
                let work = DescentWork { from, stop, converting, job };
                let descending = Descending { id: id.clone(), prepared, descent, work };
                self.descents.insert(id.name.clone(), descending);
                Ok(())
            }
            Err(error) => {
                self.shared.descents.end(&id.name);
                self.unload(prepared.version.retire(), None);
                self.end_descent(&id.name, descent);
                Err(error)
            }
        }
    }

    /// Whether the plugin's next step has to wait: for a deployment that has begun
    /// and waits itself, or for its tables.
    pub(super) fn waits(&self, name: &PluginName) -> bool {
        self.descends(name) || self.firsts.contains_key(name)
    }

    /// Whether one is at work on what is committed of the plugin's tables, or on
    /// leaving them as they were.
    pub(super) fn descends(&self, name: &PluginName) -> bool {
        self.descents.contains_key(name) || self.settles(name)
    }

    /// Whether the plugin's tables are being committed or left as they were, which
    /// whatever comes next waits for.
    pub(super) fn settles(&self, name: &PluginName) -> bool {
        self.undone.contains_key(name)
            || self.commits.contains_key(name)
            || self.shared.ways_back().under_way.contains(name)
    }

    /// Whether a deployment has begun and waits.
    pub(super) fn is_deploying(&self, name: &PluginName) -> bool {
        self.descents.contains_key(name) || self.firsts.contains_key(name) || self.waits_for_commit(name)
    }

    /// Whether no deployment waits, which a trial or another state would cross.
    pub(super) fn nothing_waits(&self, name: &PluginName) -> Result<(), FailureReport> {
        if self.is_deploying(name) {
            let message =
                format!("another version of {name} is being rehearsed, or waits for the rows of its tables");
            return Err(FailureReport::with_code(Code::GateBusy, message));
        }
        if self.settles(name) {
            // Only where more wait for that than can.
            let message = format!("the tables of {name} are being settled, and more commands wait for that");
            return Err(FailureReport::with_code(Code::GateBusy, message));
        }
        Ok(())
    }

    /// Goes on with the deployments that need not wait any more.
    pub(super) fn go_on(&mut self) {
        self.end_first_work();
        self.end_undone();
        self.end_commits();
        self.end_ways_back_told();
        let done: Vec<(PluginName, Descending)> =
            self.descents.extract_if(.., |_, descending| descending.work.job.is_done()).collect();
        for (name, descending) in done {
            self.shared.descents.end(&name);
            let id = descending.id.clone();
            let arrived = self.arrive(descending).map_err(|error| self.not_deployed(&id, &error));
            self.answer(&name, arrived);
            // Files may have come meanwhile, and a lower version may do.
            let _ = self.reconcile(&name);
        }
        self.give_up_stuck();
        self.obey_postponed();
    }

    /// Deploys a version whose rows are within its reach.
    fn arrive(&mut self, descending: Descending) -> Result<(), DeployError> {
        let Descending { id, prepared, descent, work } = descending;
        let swept = work.job.join().unwrap_or(Err(DeployError::Panicked));
        let losses = swept.and_then(|losses| {
            let serves = serving(&prepared.entry).map(|serving| serving.id().clone());
            if serves == work.from { Ok(losses) } else { Err(DeployError::Overtaken) }
        });
        let losses = losses.and_then(|losses| {
            if descent.is_one_way() || !losses.is_empty() {
                self.leave_alone(&prepared.entry)?;
            }
            Ok(losses)
        });
        let deployed = match losses {
            Ok(losses) => self.publish(&id, prepared, None, (&descent, losses)).map(drop),
            Err(error) => {
                self.unload(prepared.version.retire(), None);
                Err(error)
            }
        };
        if deployed.is_err() {
            self.end_descent(&id.name, descent);
        }
        deployed
    }

    /// Gives up the deployments whose rows are in a step that does not return.
    fn give_up_stuck(&mut self) {
        let after = self.options.unload.hook_timeout;
        let is_stuck = |work: &DescentWork| !work.job.is_done() && work.converting.is_stuck(after);
        let stuck: Vec<(PluginName, Descending)> =
            self.descents.extract_if(.., |_, descending| is_stuck(&descending.work)).collect();
        for (name, descending) in stuck {
            let (id, from) = (descending.id.clone(), descending.work.from.clone());
            self.give_up_descent(&name, descending);
            let failure = self.not_deployed(&id, &does_not_convert(from, after));
            self.answer(&name, Err(failure));
        }
        let stuck = self.shared.sweeps().newly_stuck(after);
        for id in stuck {
            self.state_problem(&id, FailureReport::of(&timed_out(after)));
        }
    }

    /// Refuses to have rows converted beside a step that hangs: more would.
    fn nothing_hangs(
        &self,
        name: &PluginName,
        from: Option<&VersionId>,
        descent: &Descent,
    ) -> Result<(), DeployError> {
        let after = self.options.unload.hook_timeout;
        let Some(from) = from.filter(|_| descent.tables().iter().any(|down| down.theirs.is_some())) else {
            return Ok(());
        };
        let hangs = |work: &DescentWork| {
            work.from.as_ref() == Some(from) && !work.job.is_done() && work.converting.is_stuck(after)
        };
        match self.given_up.iter().any(hangs) || self.shared.sweeps().is_stuck(name, from, after) {
            true => Err(does_not_convert(Some(from.clone()), after)),
            false => Ok(()),
        }
    }

    /// Gives up what waits, because something else is wanted; who waited for it.
    /// A thread that reads tables goes on with it: any version wants them. So does a
    /// rehearsal, whose outcome holds.
    pub(super) fn wait_no_longer(&mut self, name: &PluginName) -> Option<Done> {
        if let Some(descending) = self.descents.remove(name) {
            self.give_up_descent(name, descending);
        }
        self.give_up_next(name);
        if let Some(Trying { done, .. }) = self.firsts.get_mut(name).and_then(|first| first.trial.take()) {
            let message = format!("a version of {name} was chosen before this one was tried");
            let _ = done.send(Err(FailureReport::with_code(Code::DeploySuperseded, message)));
        }
        self.asked.remove(name)
    }

    fn give_up_descent(&mut self, name: &PluginName, descending: Descending) {
        let Descending { prepared, descent, work, .. } = descending;
        // Relaxed: it looks again soon, whenever that is.
        work.stop.store(true, Ordering::Relaxed);
        self.shared.descents.end(name);
        self.unload(prepared.version.retire(), None);
        self.end_descent(name, descent);
        self.given_up.retain(|work| !work.job.is_done());
        self.given_up.push(work);
    }

    /// Leaves tables as they were before a descent.
    fn end_descent(&mut self, name: &PluginName, descent: Arc<Descent>) {
        // Images that were made in vain are for a new sweep to drop.
        self.shared.sweeps().stop(name);
        if !descent.is_none() {
            self.undo(name, move || descent.give_up());
        }
    }

    /// Whether a thread is at work on tables, for a deployment that waited for it or
    /// because a plugin went back; or is to be, as soon as one can be had.
    pub(super) fn has_jobs(&self) -> bool {
        self.given_up.iter().any(|work| !work.job.is_done())
            || self.firsts.values().any(|first| !first.work.is_done())
            || self.undone.values().any(|undoing| !undoing.is_done())
            || self.commits.values().any(|committing| !committing.job.is_done())
            || !self.shared.ways_back().under_way.is_empty()
    }

    /// The same for all plugins, because the host ends.
    pub(super) fn give_up_waiting(&mut self) {
        let waiting = self.descents.keys().chain(self.asked.keys()).chain(self.commits.keys());
        let names: Vec<PluginName> = waiting.cloned().collect();
        self.stop_rehearsals();
        for name in names {
            // Who waited learns of it because the sender is gone.
            drop(self.wait_no_longer(&name));
        }
    }
}

fn serving(entry: &Entry) -> Option<Lease<Serving>> {
    entry.slot.look(Holder::new(DESCENT, monotonic_ns()))
}

/// What the thread of a descent has.
struct Work {
    entry: Arc<Entry>,
    from: Option<VersionId>,
    allow_loss: bool,
    stop: Arc<AtomicBool>,
    converting: Arc<Converting>,
    pauses: Arc<Pauses>,
    progress: Arc<DescentProgress>,
}

impl Work {
    fn new(shared: &Shared, entry: &Arc<Entry>, from: Option<VersionId>, allow_loss: bool) -> Work {
        let (pauses, progress) = (Arc::clone(&shared.sweep_pauses), Arc::clone(&shared.descents));
        let (stop, converting) = (Arc::default(), Arc::default());
        Work { entry: Arc::clone(entry), from, allow_loss, stop, converting, pauses, progress }
    }

    fn run(&self, descent: &Descent) -> Result<Vec<Loss>, DeployError> {
        if serving(&self.entry).map(|serving| serving.id().clone()) != self.from {
            return Err(DeployError::Overtaken);
        }
        descent.begin()?;
        for view in descent.tables().iter().filter_map(|down| down.theirs.as_ref()) {
            self.sweep(view)?;
        }
        descent.losses(self.allow_loss)
    }

    /// Has the version that serves make images of all rows that lack one.
    fn sweep(&self, view: &Arc<View>) -> Result<(), DeployError> {
        let (mut sweep, mut worked) = (Sweep::new(view), Duration::ZERO);
        let (mut passes, mut calls) = (0, 0);
        loop {
            // One lease for a batch, so that its rows are converted by the version
            // that it is for or by none.
            let lease = self.lease()?;
            if self.pauses.contains(&self.entry.name) {
                drop(lease);
                // Nothing tells when it may go on, and nothing waits for it.
                thread::sleep(PAUSE);
                continue;
            }
            let working = Instant::now();
            match sweep.next_batch(BATCH_ROWS).map_err(overtaken)? {
                Batch::Rows(rows) if rows.is_empty() => {}
                Batch::Rows(rows) => {
                    let entered =
                        lease.enter(|old| convert(old.payload(), &mut sweep, &rows, &self.converting));
                    // Refused is a thread too many: the rows are found again.
                    match entered.unwrap_or(Ok(None))? {
                        None => {}
                        Some(failed) if self.allow_loss => {
                            tracing::warn!(error = %failed, "a row is lost on the way back");
                        }
                        Some(failed) => return Err(before(&lease, failed.into())),
                    }
                }
                Batch::End(report) => {
                    passes += 1;
                    if report.complete || report.progress.left > 0 || passes == PASSES_MAX {
                        self.note(view, report.progress, worked + working.elapsed(), true);
                        return Ok(());
                    }
                }
            }
            drop(lease);
            sweep.wait()?;
            worked += working.elapsed();
            self.note(view, sweep.progress(), worked, false);
            let made = self.entry.slot.counters().calls;
            if made != calls {
                calls = made;
                // So that calls have half a core at least.
                let rest = working.elapsed();
                thread::sleep(rest);
                worked += rest;
            }
        }
    }

    /// The version that served when this began, if it still does.
    fn lease(&self) -> Result<Lease<Serving>, DeployError> {
        // Relaxed: looked at again soon.
        let wanted = !self.stop.load(Ordering::Relaxed);
        let lease = serving(&self.entry).filter(|lease| wanted && Some(lease.id()) == self.from.as_ref());
        lease.ok_or(DeployError::Overtaken)
    }

    fn note(&self, view: &View, progress: Progress, worked: Duration, done: bool) {
        let table = view.table().name().to_owned();
        self.progress.note(&self.entry.name, Swept { table, progress, worked, done });
    }
}

/// An error of the version that serves, which is not the one to be refused.
fn before(old: &Serving, source: DeployError) -> DeployError {
    DeployError::Before { version: Box::new(old.id().clone()), source: Box::new(source) }
}

/// A row of the version that serves has been in a step for longer than this.
fn does_not_convert(from: Option<VersionId>, after: Duration) -> DeployError {
    let source = DeployError::Hook(timed_out(after));
    match from {
        Some(version) => DeployError::Before { version: Box::new(version), source: Box::new(source) },
        None => source,
    }
}

fn timed_out(after: Duration) -> HookError {
    let reason = format!("a row has been in it for more than {} ms", after.as_millis());
    HookError { hook: Hook::Convert, kind: HookErrorKind::TimedOut, reason }
}

/// The version may write no more: it has just been left.
fn overtaken(error: TableError) -> DeployError {
    match error {
        TableError::NotActive { .. } => DeployError::Overtaken,
        error => error.into(),
    }
}
