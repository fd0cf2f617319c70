//! Bringing rows within the reach of an earlier version, before it is deployed:
//! the version that serves makes images of all of them, beside its calls.
//!
//! That takes as long as there are rows, and is paused as sweeps are. Meanwhile
//! the version waits, prepared, and the command loop serves the other plugins.
//! Nothing is committed here: a descent that is given up, or cut short by the
//! end of the process, leaves the tables as they were.

use super::{
    control::Control,
    job::Job,
    shared::Shared,
    sweeps::{Pauses, Swept},
    waiting::{Asked, Descending, DescentProgress, Prepared},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    event::FailureReport,
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{BATCH_ROWS, DeployError, Descent, Down, Loss, convert},
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
        let from = serving(&prepared.entry).map(|serving| serving.id().clone());
        let work = Work::new(&self.shared, &prepared.entry, from.clone(), self.options.allow_state_loss);
        let (stop, tables) = (Arc::clone(&work.stop), descent.tables().to_vec());
        self.shared.descents.begin(&id.name);
        match Job::start("replug-descent", self.shared.nudger(), move || work.run(&tables)) {
            Ok(job) => {
                let descending = Descending { id: id.clone(), prepared, descent, from, stop, job };
                self.descents.insert(id.name.clone(), descending);
                Ok(())
            }
            Err(error) => {
                self.shared.descents.end(&id.name);
                self.unload(prepared.version.retire(), None);
                Err(DeployError::Thread(error))
            }
        }
    }

    /// Whether a deployment of the plugin has begun and waits.
    pub(super) fn waits(&self, name: &PluginName) -> bool {
        self.descents.contains_key(name) || self.loads.contains_key(name)
    }

    /// Whether none does, which a trial or another state would cross.
    pub(super) fn nothing_waits(&self, name: &PluginName) -> Result<(), FailureReport> {
        if !self.waits(name) {
            return Ok(());
        }
        let message = format!("another version of {name} waits for the rows of its tables");
        Err(FailureReport::with_code(Code::GateBusy, message))
    }

    /// Goes on with the deployments that need not wait any more.
    pub(super) fn go_on(&mut self) {
        self.end_loads();
        let done: Vec<(PluginName, Descending)> =
            self.descents.extract_if(.., |_, descending| descending.job.is_done()).collect();
        for (name, descending) in done {
            self.shared.descents.end(&name);
            let id = descending.id.clone();
            let arrived = self.arrive(descending).map_err(|error| self.not_deployed(&id, &error));
            self.answer(&name, arrived);
            // Files may have come meanwhile, and a lower version may do.
            let _ = self.reconcile(&name);
        }
    }

    /// Deploys a version whose rows are within its reach.
    fn arrive(&mut self, descending: Descending) -> Result<(), DeployError> {
        let Descending { id, prepared, descent, from, job, .. } = descending;
        let swept = job.join().unwrap_or(Err(DeployError::Panicked));
        let losses = swept.and_then(|losses| {
            let serves = serving(&prepared.entry).map(|serving| serving.id().clone());
            if serves == from { Ok(losses) } else { Err(DeployError::Overtaken) }
        });
        let losses = losses.and_then(|losses| {
            if descent.is_one_way() || !losses.is_empty() {
                self.leave_alone(&prepared.entry)?;
            }
            Ok(losses)
        });
        let deployed = match losses {
            Ok(losses) => self.publish(&id, prepared, None, (descent, losses)).map(drop),
            Err(error) => {
                self.unload(prepared.version.retire(), None);
                drop(descent);
                Err(error)
            }
        };
        if deployed.is_err() {
            self.sweep_again(&id.name);
        }
        deployed
    }

    /// Gives up what waits, because something else is wanted; who waited for it.
    /// A thread that reads tables goes on with it: any version wants them.
    pub(super) fn wait_no_longer(&mut self, name: &PluginName) -> Option<Asked> {
        if let Some(Descending { prepared, descent, stop, job, .. }) = self.descents.remove(name) {
            // Relaxed: it looks again soon, whenever that is.
            stop.store(true, Ordering::Relaxed);
            self.shared.descents.end(name);
            self.unload(prepared.version.retire(), None);
            drop(descent);
            self.sweep_again(name);
            self.given_up.retain(|job| !job.is_done());
            self.given_up.push(job);
        }
        self.asked.remove(name)
    }

    /// Whether a thread is at work on tables that a deployment waited for.
    pub(super) fn has_jobs(&self) -> bool {
        self.given_up.iter().any(|job| !job.is_done()) || self.loads.values().any(|load| !load.job.is_done())
    }

    /// The same for all plugins, because the host ends.
    pub(super) fn give_up_waiting(&mut self) {
        let names: Vec<PluginName> = self.descents.keys().chain(self.asked.keys()).cloned().collect();
        for name in names {
            // Who waited learns of it because the sender is gone.
            drop(self.wait_no_longer(&name));
        }
    }

    /// Images that were made in vain are for a new sweep to drop.
    fn sweep_again(&mut self, name: &PluginName) {
        self.shared.sweeps().stop(name);
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
    pauses: Arc<Pauses>,
    progress: Arc<DescentProgress>,
}

impl Work {
    fn new(shared: &Shared, entry: &Arc<Entry>, from: Option<VersionId>, allow_loss: bool) -> Work {
        let (pauses, progress) = (Arc::clone(&shared.sweep_pauses), Arc::clone(&shared.descents));
        Work { entry: Arc::clone(entry), from, allow_loss, stop: Arc::default(), pauses, progress }
    }

    fn run(&self, tables: &[Down]) -> Result<Vec<Loss>, DeployError> {
        for view in tables.iter().filter_map(|down| down.theirs.as_ref()) {
            self.sweep(view)?;
        }
        let losses = tables.iter().map(|down| down.loss(self.allow_loss));
        losses.filter_map(Result::transpose).collect()
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
                    let entered = lease.enter(|old| convert(old.payload(), &mut sweep, &rows));
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

/// The version may write no more: it has just been left.
fn overtaken(error: TableError) -> DeployError {
    match error {
        TableError::NotActive { .. } => DeployError::Overtaken,
        error => error.into(),
    }
}
