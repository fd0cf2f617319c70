//! The command loop: the one owner of what is live.
//!
//! One thread takes reports of the watcher and commands of handles, one after
//! the other, and runs deployments to their end. Everything else asks it, or
//! reads what it publishes; status never waits for it.

use super::{
    catalog::{Added, Arrival, Catalog},
    options::HostBuilder,
    stuck::StuckCalls,
};
use crate::{
    artifact::{
        stage::{StageError, Stager},
        watch::{self, Report, Watcher},
    },
    clock::monotonic_ns,
    dispatch::Holder,
    event::{EventKind, EventLog, FailureReport},
    failure::{Code, Failure},
    id::{PluginName, VersionId},
    pipeline::{self, Unloading, Worker},
    service::Directory,
    state::store::SnapshotStore,
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

    pub(super) fn event(&self, id: Option<&VersionId>, kind: EventKind) {
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

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
