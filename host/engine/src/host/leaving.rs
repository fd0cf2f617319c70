//! The end of a plugin's service: its calls end, its state is saved, and only
//! then is it unloaded. The command loop never waits for calls, nor for the disks
//! of tables: it looks at versions that leave on its tick.

use super::{
    control::{Control, micros},
    job::Job,
    save::holder,
    shared::Leaving,
    stuck::StuckCalls,
};
use crate::{
    artifact::inspect::Manifest,
    dispatch::{Retired, Scan},
    event::{EventKind, EventLog, FailureReport},
    failure::{Code, Failure},
    id::{PluginName, VersionId},
    pipeline::{UnloadStage, Unloading},
    service::Serving,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often a host that ends looks at what it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long stores have to be closed at least, also where all the time is up.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

impl Control {
    /// Takes a plugin out of service.
    pub(super) fn retire(&mut self, name: &PluginName) {
        self.retire_until(name, Instant::now() + self.options.shutdown_timeout);
    }

    fn retire_until(&mut self, name: &PluginName, until: Instant) {
        let entry = self.shared.directory.entry(name);
        let mut untried = None;
        let (withdrawn, beside, ended) = {
            let _change = entry.change();
            let trial = entry.slot.roll_back().ok();
            let serving = entry.slot.look(holder("retire"));
            if let Some((trial, serving)) = trial.as_ref().zip(serving) {
                let (trial, serving) = (trial.payload(), Arc::clone(serving.tables()));
                untried = Some((trial.id().clone(), Arc::clone(trial.tables()), serving));
            }
            let withdrawn = entry.slot.withdraw();
            let beside = self.stand_by(name, trial, false);
            let mut ended = None;
            let mut catalog = self.shared.catalog();
            if let Some(versions) = catalog.get_mut(name.as_str()) {
                ended = versions.trial().map(|trial| self.shared.note(trial, EventKind::TrialEnded));
                versions.set_trial(None);
                if withdrawn.is_ok() {
                    versions.set_active(None);
                }
            }
            catalog.prune(name);
            (withdrawn, beside, ended)
        };
        if let Some(ended) = ended {
            EventLog::tell(&ended);
        }
        if let Some((id, trial, serving)) = untried {
            // It has not been promoted, so its rows count as its images.
            self.undo_of(&id, move || trial.roll_back(Some(&serving)));
        }
        for retired in beside {
            self.unload(retired, None);
        }
        let retired = match withdrawn {
            Ok(retired) => retired,
            Err(error) => return tracing::debug!(plugin = %name, %error, "there is nothing to retire"),
        };
        let id = retired.payload().id().clone();
        self.shared.event(Some(&id), EventKind::Retired);
        if !retired.payload().manifest().state.snapshot {
            return self.unload(retired, None);
        }
        let retired = Arc::new(retired);
        self.shared.leaving().push(Leaving { id, retired, since: Instant::now(), until, saving: false });
        self.let_go_of_leaving(Instant::now());
    }

    /// Whether a version of the plugin waits for its last calls.
    pub(super) fn is_leaving(&self, name: &PluginName) -> bool {
        self.shared.leaving().iter().any(|leaving| leaving.id.name == *name)
    }

    /// Whether no version of the plugin waits for its last calls: its state is
    /// still to be saved, which would be the newest then.
    pub(super) fn has_left(&self, name: &PluginName) -> Result<(), FailureReport> {
        if !self.is_leaving(name) {
            return Ok(());
        }
        let message = format!("the version of {name} before still ends its calls, to save its state");
        Err(FailureReport::with_code(Code::GateBusy, message))
    }

    /// Saves and unloads the versions whose calls have returned, or that have
    /// waited long enough for that.
    pub(super) fn let_go_of_leaving(&mut self, now: Instant) {
        while let Some(Ready { id, retired, tried }) = self.next_ready(now) {
            let hangs = if tried { None } else { self.save_last(&id, &retired) };
            self.shared.leaving().retain(|leaving| leaving.retired.id() != retired.id());
            let retired = Arc::into_inner(retired).expect("only this thread keeps it outside of the list");
            self.unload(retired, hangs);
            // Another version may have been waiting for this state.
            self.reconcile_all(vec![id.name]);
        }
    }

    /// A version that waits no longer. It stays among those that leave until it
    /// is unloaded, so that status shows it and a panic does not lose it.
    fn next_ready(&self, now: Instant) -> Option<Ready> {
        let mut leaving = self.shared.leaving();
        let is_ready = |leaving: &&mut Leaving| leaving.retired.is_drained() || leaving.until <= now;
        let Leaving { id, retired, saving, .. } = leaving.iter_mut().find(is_ready)?;
        let tried = std::mem::replace(saving, true);
        Some(Ready { id: id.clone(), retired: Arc::clone(retired), tried })
    }

    /// Clears away unloads that are done, and looks for code that hangs.
    pub(super) fn clear_unloads(&mut self) {
        let done: Vec<Unloading> = {
            let mut unloads = self.shared.unloads();
            unloads.iter().for_each(Unloading::look_for_hanging_code);
            unloads.extract_if(.., |unloading| unloading.is_done()).collect()
        };
        for unloading in done {
            self.shared.records().entry(unloading.id.name.clone()).or_default().unloads_proven += 1;
            self.hanging_exports.remove(&unloading.id);
            // Another copy of it may serve.
            if let Some(version) = unloading.in_memory {
                self.in_memory.remove(&version);
            }
            unloading.join();
        }
    }

    /// Reports calls that do not return, in versions that were replaced too.
    pub(super) fn look_for_stuck_calls(&self, stuck: &mut StuckCalls) {
        for (call, time) in stuck.look(Instant::now(), Scan::take()) {
            // The rest runs in versions of other hosts.
            if let Some(id) = self.in_memory.get(&call.version) {
                let kind = EventKind::StuckCall { thread: call.thread, micros: micros(time) };
                self.shared.event(Some(id), kind);
            }
        }
    }

    /// Takes everything out of service, saves, unloads; with one deadline for
    /// all of it.
    pub(super) fn shut_down(&mut self) {
        let until = Instant::now() + self.options.shutdown_timeout;
        self.ends_at = Some(until);
        self.give_up_waiting();
        // None begins any more.
        self.shared.sweeps().stop_all();
        // Saving takes time too.
        let calls_until = Instant::now() + self.options.shutdown_timeout / 4 * 3;
        let manifests = self.manifests();
        for name in callers_first(&manifests) {
            self.retire_until(&name, calls_until);
            let calls_others = manifests.get(&name).is_some_and(|manifest| !manifest.dependencies.is_empty());
            while calls_others && self.has_calls(&name) && Instant::now() < calls_until {
                thread::sleep(LOOK_EVERY);
            }
        }
        loop {
            let now = Instant::now();
            self.end_probations(now);
            self.let_go_of_leaving(now);
            self.clear_unloads();
            let left = self.shared.unloads().len();
            if left + self.shared.leaving().len() == 0 {
                break;
            }
            if now >= until {
                let message = format!("{left} versions were still in use when the host ended");
                self.problem(Code::HostUncleanEnd, message);
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        // They hold tables, which are closed next, and choices wait for them.
        while self.has_jobs() && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
            // What there was no thread for is begun now.
            self.end_undone();
        }
        self.end_undone();
        self.shared.directory.stop();
        // They write to what is closed next.
        while !self.shared.sweeps().have_ended() {
            if Instant::now() >= until {
                self.problem(
                    Code::HostUncleanEnd,
                    "a sweep of tables was still at work when the host ended".to_owned(),
                );
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        self.close_tables(until.max(Instant::now() + CLOSE_WITHIN));
    }

    /// Gives the stores of tables back. If their disks take longer than that it goes
    /// on, and no other host uses them meanwhile.
    fn close_tables(&self, until: Instant) {
        let (directory, lock) = (Arc::clone(&self.shared.directory), Arc::clone(&self.lock));
        let job = Job::start("replug-close", self.shared.nudger(), move || {
            let closed = directory.tables.close();
            // Nothing is written to the stores from now on.
            drop(lock);
            closed
        });
        let closed = match job {
            Ok(job) => {
                while !job.is_done() && Instant::now() < until {
                    thread::sleep(LOOK_EVERY);
                }
                if !job.is_done() {
                    let message = "a disk still kept tables from being closed when the host ended".to_owned();
                    return self.problem(Code::HostUncleanEnd, message);
                }
                job.join()
            }
            // Better late than not at all.
            Err(_) => Some(self.shared.directory.tables.close()),
        };
        if let Some(Err(error)) = closed {
            self.problem(error.code(), format!("the tables were not closed: {error}"));
        }
    }

    /// What the serving versions say about themselves.
    fn manifests(&self) -> BTreeMap<PluginName, Arc<Manifest>> {
        let entries = self.shared.directory.all();
        let serving = entries.iter().filter_map(|entry| {
            let lease = entry.slot.look(holder("shutdown"))?;
            Some((entry.name.clone(), Arc::clone(lease.manifest())))
        });
        serving.collect()
    }

    /// Whether calls run in versions of a plugin that is out of service.
    fn has_calls(&self, name: &PluginName) -> bool {
        let leaves = |leaving: &Leaving| leaving.id.name == *name && !leaving.retired.is_drained();
        let drains = |unloading: &Unloading| {
            unloading.id.name == *name && unloading.status().stage == UnloadStage::Draining
        };
        self.shared.leaving().iter().any(leaves) || self.shared.unloads().iter().any(drains)
    }
}

/// A version whose last state is to be saved.
struct Ready {
    id: VersionId,
    retired: Arc<Retired<Serving>>,
    /// That was begun, and ended in a panic: it is not begun again.
    tried: bool,
}

/// The plugins, each before those that it says it calls: calls in flight can
/// then make the calls that they still need. In a circle the order is that of
/// the names.
fn callers_first(manifests: &BTreeMap<PluginName, Arc<Manifest>>) -> Vec<PluginName> {
    let mut left: BTreeSet<&PluginName> = manifests.keys().collect();
    let mut order = Vec::with_capacity(left.len());
    while let Some(first) = left.first().copied() {
        let is_called = |name: &PluginName| {
            let callers = left.iter().filter(|caller| **caller != name);
            callers.flat_map(|caller| &manifests[*caller].dependencies).any(|needed| needed.name == *name)
        };
        let next = left.iter().copied().find(|name| !is_called(name)).unwrap_or(first);
        left.remove(next);
        order.push(next.clone());
    }
    order
}
