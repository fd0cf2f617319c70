//! The command loop: the one owner of what is live.
//!
//! One thread takes reports of the watcher and commands of handles, one after
//! the other, and runs deployments to their end. Everything else asks it, or
//! reads what it publishes; status never waits for it.

use super::{
    catalog::{Added, Arrival, Catalog},
    options::{HostBuilder, RemovalPolicy},
    stuck::StuckCalls,
};
use crate::{
    artifact::{
        stage::{StageError, Stager},
        watch::{self, Report, Watcher},
    },
    clock::monotonic_ns,
    dispatch::{Holder, Version},
    event::{EventKind, EventLog, FailureReport, StageTimes},
    failure::{Code, Failure},
    id::{PluginName, VersionId},
    load::Loaded,
    pipeline::{self, DeployError, Means, StatePolicy, Unloading, Worker},
    service::{Directory, Entry, Serving},
    state::{chain::MigratePolicy, store::SnapshotStore},
};
use crossbeam::channel::{self, Receiver};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// What handles ask of the loop.
pub(super) enum Command {
    /// Chooses a version, or none: then the highest is wanted again.
    Activate {
        name: PluginName,
        version: Option<semver::Version>,
        done: oneshot::Sender<Result<VersionId, FailureReport>>,
    },
    /// Saves the state of all plugins now.
    SaveState { done: oneshot::Sender<Result<usize, FailureReport>> },
    /// Ends the host.
    Shutdown { done: oneshot::Sender<()> },
}

/// What the loop and the handles share: written by the loop, read by all.
pub(super) struct Shared {
    pub(super) directory: Arc<Directory>,
    pub(super) events: Arc<EventLog>,
    catalog: Mutex<Catalog>,
    unloads: Mutex<Vec<Unloading>>,
    records: Mutex<BTreeMap<PluginName, Record>>,
    pub(super) unloads_proven: AtomicU64,
}

/// Figures of one plugin that outlive its versions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) last_pause_us: Option<u64>,
    pub(super) unloads_proven: u64,
}

impl Shared {
    pub(super) fn new(directory: Arc<Directory>, events: Arc<EventLog>) -> Self {
        Shared {
            directory,
            events,
            catalog: Mutex::default(),
            unloads: Mutex::default(),
            records: Mutex::default(),
            unloads_proven: AtomicU64::new(0),
        }
    }

    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unloads(&self) -> MutexGuard<'_, Vec<Unloading>> {
        self.unloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn records(&self) -> MutexGuard<'_, BTreeMap<PluginName, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Versions that should be gone and are not.
    pub(super) fn residents(&self) -> usize {
        self.unloads().iter().filter(|unloading| !unloading.status().pins.is_empty()).count()
    }
}

/// How often unloads that are done are cleared away.
const TICK: Duration = Duration::from_millis(100);

/// Reports that are taken before a deployment begins, so that of many files the
/// highest version is deployed and not each of them.
const REPORTS_AT_ONCE_MAX: usize = 4096;

/// How often a file that changes while it is copied is tried again before that
/// is reported.
const UNSTEADY_TRIES_MAX: u32 = 20;

pub(super) struct Control {
    pub(super) options: HostBuilder,
    pub(super) shared: Arc<Shared>,
    pub(super) watcher: Watcher,
    pub(super) stager: Stager,
    pub(super) store: SnapshotStore,
    pub(super) worker: Worker,
    /// Files that changed while they were copied, and how often.
    pub(super) unsteady: BTreeMap<PathBuf, u32>,
}

impl Control {
    /// Runs until a shutdown is commanded or every handle is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let tick = channel::tick(TICK);
        let mut stuck = StuckCalls::new(self.options.stuck_after);
        let look = channel::tick(stuck.interval());
        let save = channel::tick(self.options.snapshot_interval);
        let reports = self.watcher.reports().clone();
        loop {
            channel::select! {
                recv(reports) -> report => match report {
                    Ok(report) => self.take_reports(report, &reports),
                    Err(_) => break,
                },
                recv(commands) -> command => match command {
                    Ok(Command::Activate { name, version, done }) => {
                        // The asker may have gone away meanwhile.
                        let _ = done.send(self.activate(&name, version));
                    }
                    Ok(Command::SaveState { done }) => {
                        let _ = done.send(self.save_all());
                    }
                    Ok(Command::Shutdown { done }) => {
                        self.shut_down();
                        let _ = done.send(());
                        return;
                    }
                    Err(_) => break,
                },
                recv(tick) -> _ => self.clear_unloads(),
                recv(look) -> _ => self.look_for_stuck_calls(&mut stuck),
                recv(save) -> _ => drop(self.save_all()),
            }
        }
        self.shut_down();
    }

    fn event(&self, id: Option<&VersionId>, kind: EventKind) {
        self.shared.events.write(id.map(|id| id.name.to_string()), id.map(ToString::to_string), kind);
    }

    fn take_reports(&mut self, first: Report, more: &Receiver<Report>) {
        self.take_report(first);
        for report in more.try_iter().take(REPORTS_AT_ONCE_MAX) {
            self.take_report(report);
        }
        self.reconcile_all();
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Candidate(file) => self.take_file(&file),
            Report::Gone { path } => {
                let gone = self.shared.catalog().remove(&path);
                if let Some(id) = gone {
                    self.event(Some(&id), EventKind::Gone { path: path.display().to_string() });
                }
            }
            Report::Mode(mode) => {
                let directory = self.watcher.directory().display().to_string();
                self.event(None, EventKind::Watching { directory, mode: mode.to_string() });
            }
            Report::Held { path, unchanged_for } => {
                let message = format!(
                    "{} has not changed for {} ms, but a writer keeps it open",
                    path.display(),
                    unchanged_for.as_millis()
                );
                let failure = FailureReport::with_code(Code::StageChanging, message);
                self.event(None, EventKind::Refused { path: path.display().to_string(), failure });
            }
            Report::TooManyFiles { limit } => {
                tracing::error!(limit, "the plugin directory holds more files than are watched");
            }
            Report::Rescanned { cause, files } => {
                tracing::debug!(?cause, files, "scanned the plugin directory")
            }
        }
    }

    fn refused(&self, path: &Path, error: &dyn Failure) {
        let failure = FailureReport::of(error);
        self.event(None, EventKind::Refused { path: path.display().to_string(), failure });
    }

    /// Copies and reads a file, and notes what it is.
    fn take_file(&mut self, file: &watch::Candidate) {
        let noticed_ns = u64::try_from(file.noticed.as_nanos()).unwrap_or(u64::MAX);
        let mut arrival = Arrival { noticed_ns, taken_ns: monotonic_ns(), ..Arrival::default() };
        let staged = match self.stager.stage(&file.path) {
            Ok(staged) => staged,
            Err(error) => return self.not_staged(&file.path, &error),
        };
        self.unsteady.remove(&file.path);
        arrival.staged_ns = monotonic_ns();
        let candidate = match pipeline::inspect(staged) {
            Ok(candidate) => candidate,
            Err(error) => {
                // Whatever it was before, it no longer is.
                self.shared.catalog().remove(&file.path);
                return self.refused(&file.path, &error);
            }
        };
        arrival.inspected_ns = monotonic_ns();
        for hazard in &candidate.hazards {
            tracing::warn!(version = %candidate.id, ?hazard, "the library may be hard to unload");
        }
        let id = candidate.id.clone();
        let (added, wanted) = {
            let mut catalog = self.shared.catalog();
            let added = catalog.add(candidate, arrival);
            let wanted =
                catalog.get(id.name.as_str()).and_then(|versions| versions.wanted()).map(|w| w.id.clone());
            (added, wanted)
        };
        if added == Added::Known {
            return;
        }
        self.event(Some(&id), EventKind::Found { path: file.path.display().to_string() });
        if let Some(wanted) = wanted.filter(|wanted| *wanted != id) {
            self.event(Some(&id), EventKind::Superseded { by: wanted.to_string() });
        }
    }

    /// A file that changed under the copy is looked at again, a bounded number
    /// of times: no further event may come. Any other refusal stands until the
    /// file changes.
    fn not_staged(&mut self, path: &Path, error: &StageError) {
        if matches!(error, StageError::Changing { .. }) {
            let tries = self.unsteady.entry(path.to_owned()).or_default();
            *tries += 1;
            if *tries <= UNSTEADY_TRIES_MAX {
                return self.watcher.report_again(path);
            }
        }
        self.unsteady.remove(path);
        self.refused(path, error);
    }

    fn reconcile_all(&mut self) {
        let names = self.shared.catalog().names();
        for name in names {
            // A failure was reported as an event; there is nobody else to tell.
            let _ = self.reconcile(&name);
        }
    }

    /// Makes what is wanted what serves. Returns the first failure, after
    /// which a lower version may have been deployed.
    fn reconcile(&mut self, name: &PluginName) -> Result<(), FailureReport> {
        let mut first_failure = Ok(());
        while let Some(step) = self.next_step(name) {
            match step {
                Step::Retire => {
                    self.retire(name);
                    break;
                }
                Step::Deploy(id) => {
                    let Err(error) = self.deploy(&id) else { break };
                    let failure = FailureReport::of(&error);
                    let kind = EventKind::DeployFailed { stage: error.stage(), failure: failure.clone() };
                    self.event(Some(&id), kind);
                    if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                        versions.refuse(&id);
                    }
                    first_failure = first_failure.and(Err(failure));
                }
            }
        }
        first_failure
    }

    fn next_step(&self, name: &PluginName) -> Option<Step> {
        let catalog = self.shared.catalog();
        let versions = catalog.get(name.as_str())?;
        let active = versions.active.as_ref();
        let Some(wanted) = versions.wanted() else {
            let all_gone = versions.present().next().is_none();
            let retire = active.is_some() && all_gone && self.options.removal == RemovalPolicy::FallBack;
            return retire.then_some(Step::Retire);
        };
        if active == Some(&wanted.id) {
            return None;
        }
        // Going back needs a reason: an operator's choice, or that the file of
        // what serves is gone and the policy says so. That a newer file was
        // refused is none.
        if let Some(active) = active
            && wanted.id.version < active.version
            && versions.pinned().is_none()
        {
            let own_file_refused = versions.find(&active.version).is_some();
            if own_file_refused || self.options.removal == RemovalPolicy::Keep {
                return None;
            }
        }
        Some(Step::Deploy(wanted.id.clone()))
    }

    fn deploy(&mut self, id: &VersionId) -> Result<(), DeployError> {
        let residents = self.shared.residents();
        if residents >= self.options.residents_max {
            return Err(DeployError::Residents { residents });
        }
        let (from, mut arrival, candidate, path) = {
            let mut catalog = self.shared.catalog();
            let Some(versions) = catalog.get_mut(id.name.as_str()) else {
                return Ok(());
            };
            let candidate = versions.take_candidate(id);
            let Some(present) = versions.find(&id.version) else {
                return Ok(());
            };
            let (arrival, path) = (present.arrival, present.path.clone());
            (versions.active.as_ref().map(ToString::to_string), arrival, candidate, path)
        };
        self.event(Some(id), EventKind::Deploying { from: from.clone() });
        let candidate = match candidate {
            Some(candidate) => candidate,
            None => {
                // Not fresh from the watch: the way begins here.
                let now = monotonic_ns();
                arrival = Arrival { noticed_ns: now, taken_ns: now, ..Arrival::default() };
                let staged = self.stager.stage(&path)?;
                arrival.staged_ns = monotonic_ns();
                let candidate = pipeline::inspect(staged)?;
                arrival.inspected_ns = monotonic_ns();
                candidate
            }
        };
        if candidate.id != *id {
            // The file changed since it was read, which the watch is about to
            // report; what it is now is wanted then.
            return Err(DeployError::Replaced { wanted: id.to_string(), found: candidate.id.to_string() });
        }
        let mut stages = StageTimes {
            notice_us: (arrival.taken_ns - arrival.noticed_ns.min(arrival.taken_ns)) / 1_000,
            stage_us: (arrival.staged_ns - arrival.taken_ns) / 1_000,
            inspect_us: (arrival.inspected_ns - arrival.staged_ns) / 1_000,
            ..StageTimes::default()
        };
        let entry = self.shared.directory.entry(&id.name);
        let config = self.config_of(&id.name);
        let started = pipeline::start(candidate, &self.shared.directory, config, &mut self.worker);
        let started = match started {
            Ok(started) => started,
            Err(failed) => {
                if let Some(library) = failed.library {
                    self.unload_library(id, library);
                }
                return Err(failed.error);
            }
        };
        stages.load_us = micros(started.load_time);
        stages.prepare_us = micros(started.prepare_time);
        self.publish(id, &entry, started.version, from, stages, arrival.noticed_ns)
    }

    fn publish(
        &mut self,
        id: &VersionId,
        entry: &Arc<Entry>,
        version: Version<Serving>,
        from: Option<String>,
        mut stages: StageTimes,
        noticed_ns: u64,
    ) -> Result<(), DeployError> {
        let policy = self.policy();
        let mut means = Means {
            worker: &mut self.worker,
            store: &self.store,
            policy,
            quiesce_timeout: self.options.quiesce_timeout,
        };
        let taken = match pipeline::take_over(entry, version, &mut means) {
            Ok(taken) => taken,
            Err(refused) => {
                self.unload(refused.version.retire());
                return Err(refused.error);
            }
        };
        stages.pause_us = micros(taken.pause);
        stages.publish_ns = u64::try_from(taken.publish.as_nanos()).unwrap_or(u64::MAX);
        stages.total_us = monotonic_ns().saturating_sub(noticed_ns) / 1_000;
        if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
            versions.active = Some(id.clone());
        }
        if taken.pause > Duration::ZERO {
            self.shared.records().entry(id.name.clone()).or_default().last_pause_us = Some(stages.pause_us);
        }
        self.event(Some(id), EventKind::Published { from, stages });
        if let Some(old) = taken.old {
            self.unload(old);
        }
        if let Some(state) = taken.state {
            let (from_schema, to_schema) = state.schemas;
            let kind =
                EventKind::StateHandedOver { from_schema, to_schema, bytes: state.bytes, loss: state.loss };
            self.event(Some(id), kind);
            if let Some(exported) = state.exported
                && let Err(error) = pipeline::save(&self.store, &exported)
            {
                // The snapshot from before the gate is there; this one is newer.
                self.event(Some(id), EventKind::StateProblem { failure: FailureReport::of(&error) });
            }
        }
        Ok(())
    }

    fn retire(&mut self, name: &PluginName) {
        let entry = self.shared.directory.entry(name);
        let id = self.shared.catalog().get_mut(name.as_str()).and_then(|versions| versions.active.take());
        match entry.slot.withdraw() {
            Ok(retired) => {
                self.event(id.as_ref(), EventKind::Retired);
                self.save_retired(&retired);
                self.unload(retired);
            }
            Err(error) => tracing::debug!(plugin = %name, %error, "there is nothing to retire"),
        }
    }

    /// Saves the last state of a version that serves no new calls.
    fn save_retired(&mut self, retired: &crate::dispatch::Retired<Serving>) {
        if !retired.payload().manifest().state.snapshot {
            return;
        }
        let id = retired.payload().id().clone();
        let until = Instant::now() + self.options.shutdown_timeout;
        while !retired.is_drained() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let lease = retired.lease(Holder::new("last snapshot", monotonic_ns()));
        let bytes_max = self.options.state_bytes_max;
        self.save_lease(&id, lease, bytes_max);
    }

    fn save_lease(
        &mut self,
        id: &VersionId,
        lease: crate::dispatch::Lease<Serving>,
        bytes_max: usize,
    ) -> bool {
        let failure = match pipeline::snapshot_of(lease, bytes_max, &mut self.worker) {
            Err(error) => FailureReport::of(&error),
            Ok(envelope) => match pipeline::save(&self.store, &envelope) {
                Err(error) => FailureReport::of(&error),
                Ok(()) => {
                    let kind = EventKind::StateSaved {
                        schema: envelope.schema_version,
                        bytes: envelope.payload.len() as u64,
                    };
                    self.event(Some(id), kind);
                    return true;
                }
            },
        };
        self.event(Some(id), EventKind::StateProblem { failure });
        false
    }

    /// Saves the state of every plugin that has some. Returns how many.
    fn save_all(&mut self) -> Result<usize, FailureReport> {
        let mut saved = 0;
        for entry in self.shared.directory.all() {
            let holder = Holder::new("snapshot", monotonic_ns());
            let Ok(lease) = entry.slot.lease(holder) else {
                continue;
            };
            if !lease.manifest().state.snapshot {
                continue;
            }
            let id = lease.id().clone();
            if !self.save_lease(&id, lease, self.options.state_bytes_max) {
                let message = format!("the state of {id} was not saved; the events say why");
                return Err(FailureReport::with_code(Code::StateStore, message));
            }
            saved += 1;
        }
        Ok(saved)
    }

    fn activate(
        &mut self,
        name: &PluginName,
        version: Option<semver::Version>,
    ) -> Result<VersionId, FailureReport> {
        {
            let mut catalog = self.shared.catalog();
            let unknown = |message: String| FailureReport::with_code(Code::DeployUnknownVersion, message);
            let versions = catalog
                .get_mut(name.as_str())
                .ok_or_else(|| unknown(format!("no file of plugin {name} is present")))?;
            if let Some(version) = &version
                && versions.find(version).is_none()
            {
                let present: Vec<String> =
                    versions.present().map(|present| present.id.version.to_string()).collect();
                let message = format!("{name} {version} is not present; there are: {}", present.join(", "));
                return Err(unknown(message));
            }
            versions.pin(version);
        }
        let before = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active.clone());
        let done = self.reconcile(name);
        let after = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active.clone());
        match (done, after) {
            (Ok(()), Some(active)) => Ok(active),
            (Err(failure), _) => {
                // A choice that cannot be had is not kept.
                if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                    versions.pin(before.map(|id| id.version));
                }
                Err(failure)
            }
            (Ok(()), None) => Err(FailureReport::with_code(
                Code::DeployUnknownVersion,
                format!("no version of {name} can be activated"),
            )),
        }
    }

    fn policy(&self) -> StatePolicy {
        StatePolicy {
            migrate: MigratePolicy::Migrate,
            allow_loss: self.options.allow_state_loss,
            bytes_max: self.options.state_bytes_max,
        }
    }

    fn config_of(&self, name: &PluginName) -> String {
        self.options.configs.get(name.as_str()).map(ToString::to_string).unwrap_or_default()
    }

    fn unload(&mut self, retired: crate::dispatch::Retired<Serving>) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_version(retired, options, events, self.worker.nudge()));
    }

    fn unload_library(&mut self, id: &VersionId, library: Box<Loaded>) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_library(id.clone(), library, options, events, self.worker.nudge()));
    }

    fn keep(&self, unloading: std::io::Result<Unloading>) {
        match unloading {
            Ok(unloading) => self.shared.unloads().push(unloading),
            Err(error) => {
                tracing::error!(%error, "no thread for an unload: the version stays in memory")
            }
        }
    }

    /// Clears away unloads that are done, and looks for hooks that hang.
    fn clear_unloads(&self) {
        let done: Vec<Unloading> = {
            let mut unloads = self.shared.unloads();
            unloads.iter().for_each(Unloading::look_for_hanging_hook);
            unloads.extract_if(.., |unloading| unloading.is_done()).collect()
        };
        for unloading in done {
            self.shared.unloads_proven.fetch_add(1, Ordering::Relaxed);
            self.shared.records().entry(unloading.id.name.clone()).or_default().unloads_proven += 1;
            unloading.join();
        }
    }

    fn look_for_stuck_calls(&self, stuck: &mut StuckCalls) {
        let ours: Vec<_> = self
            .shared
            .directory
            .all()
            .into_iter()
            .filter_map(|entry| {
                let holder = Holder::new("stuck calls", monotonic_ns());
                let lease = entry.slot.lease(holder).ok()?;
                Some((lease.version(), lease.id().clone()))
            })
            .collect();
        for (call, time) in stuck.look() {
            let Some((_, id)) = ours.iter().find(|(version, _)| *version == call.version) else {
                continue;
            };
            self.event(Some(id), EventKind::StuckCall { thread: call.thread, micros: micros(time) });
        }
    }

    /// Drains, saves, unloads.
    fn shut_down(&mut self) {
        let until = Instant::now() + self.options.shutdown_timeout;
        for entry in self.shared.directory.all() {
            self.retire(&entry.name);
        }
        while Instant::now() < until {
            self.clear_unloads();
            if self.shared.unloads().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = self.shared.unloads().len();
        if left > 0 {
            tracing::warn!(left, "versions are still in use at the end of the host");
        }
        self.shared.directory.stop();
        self.event(None, EventKind::Stopped);
        self.shared.events.close();
    }
}

/// What has to be done so that the wanted version serves.
enum Step {
    Deploy(VersionId),
    Retire,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
