//! The embedder's handle to a host.

use super::{
    control::{Command, Control, Shared},
    error::HostError,
    lock::lock,
    options::HostBuilder,
    status::{HostStatus, LeaseStatus, PluginState, PluginStatus, UnloadingStatus, VersionStatus},
};
use crate::{
    artifact::{
        stage::Stager,
        watch::{WatchMode, Watcher},
    },
    clock::monotonic_ns,
    dispatch::{Holder, SlotState, barrier},
    event::{EventLog, Events, FailureReport},
    id::{InvalidPluginName, PluginName, VersionId},
    pipeline::{Unloading, Worker},
    service::{Directory, Entry, Plugin},
    state::store::{SnapshotStore, StoreOptions},
};
use crossbeam::channel::{self, Sender};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;

/// Commands that wait for the loop; more make their askers wait.
const COMMANDS_MAX: usize = 64;

/// A running host. Cheap to clone; the host ends with
/// [`shutdown`](Host::shutdown), or when the last handle is dropped.
///
/// ```no_run
/// use replug_host::Host;
///
/// let host = Host::builder("plugins").start()?;
/// println!("{:?}", host.status().plugins);
/// host.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    plugin_dir: PathBuf,
    watching: Arc<dyn Fn() -> WatchMode + Send + Sync>,
    commands: Mutex<Option<Sender<Command>>>,
    control: Mutex<Option<JoinHandle<()>>>,
    // Locked for as long as the host lives.
    _lock: File,
}

impl HostBuilder {
    /// Starts the host.
    ///
    /// # Errors
    /// [`HostError`]: a directory that cannot be used, or no threads.
    pub fn start(self) -> Result<Host, HostError> {
        Host::start(self)
    }
}

impl Host {
    /// A host for the plugins of one directory.
    pub fn builder(plugin_dir: impl AsRef<Path>) -> HostBuilder {
        HostBuilder::new(plugin_dir.as_ref())
    }

    fn start(options: HostBuilder) -> Result<Host, HostError> {
        let options = options.checked()?;
        let plugin_dir = std::path::absolute(&options.plugin_dir)
            .map_err(|source| HostError::DataDirectory { path: options.plugin_dir.clone(), source })?;
        let data_dir = options.data_dir.clone().unwrap_or_else(|| beside(&plugin_dir));
        let lock = lock(&data_dir)?;
        let stager = Stager::new(data_dir.join("private"), options.stage)?;
        let store_options =
            StoreOptions { max_state_bytes: options.state_bytes_max as u64, ..StoreOptions::default() };
        let store = SnapshotStore::open(data_dir.join("state"), store_options)?;
        let directory = Arc::new(Directory::new(options.service).map_err(HostError::Thread)?);
        let events = Arc::new(EventLog::default());
        let shared = Arc::new(Shared::new(directory, events));
        let worker = Worker::start(options.unload.hook_timeout).map_err(HostError::Thread)?;
        let watcher = Watcher::start(&plugin_dir, options.watch.clone())?;
        let watching = watcher.mode_reader();
        let (commands, queue) = channel::bounded(COMMANDS_MAX);
        let control = Control {
            options,
            shared: Arc::clone(&shared),
            watcher,
            stager,
            store,
            worker,
            unsteady: BTreeMap::new(),
        };
        let control = thread::Builder::new()
            .name("replug-control".to_owned())
            .spawn(move || control.run(&queue))
            .map_err(HostError::Thread)?;
        Ok(Host {
            inner: Arc::new(Inner {
                shared,
                plugin_dir,
                watching,
                commands: Mutex::new(Some(commands)),
                control: Mutex::new(Some(control)),
                _lock: lock,
            }),
        })
    }

    /// A handle to the plugin of this name, whether or not it is there yet.
    ///
    /// # Errors
    /// When no plugin can have this name.
    pub fn plugin(&self, name: &str) -> Result<Plugin, InvalidPluginName> {
        let directory = &self.inner.shared.directory;
        Ok(Plugin::new(directory.entry(&name.parse()?), Arc::clone(directory)))
    }

    /// A handle to a plugin that the host has heard of.
    pub fn find(&self, name: &str) -> Option<Plugin> {
        let directory = &self.inner.shared.directory;
        directory.find(name).map(|entry| Plugin::new(entry, Arc::clone(directory)))
    }

    /// Makes a version the one that serves, until another is chosen or its file
    /// goes away. `None` goes back to the highest version present.
    ///
    /// The command is accepted at once and carried out in order; the result is
    /// both a future and something to wait for.
    pub fn activate(&self, name: &PluginName, version: Option<semver::Version>) -> Outcome<VersionId> {
        self.ask(|done| Command::Activate { name: name.clone(), version, done })
    }

    /// Saves the state of all plugins now; the result is how many have some.
    pub fn save_state(&self) -> Outcome<usize> {
        self.ask(|done| Command::SaveState { done })
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::from_now(Arc::clone(&self.inner.shared.events))
    }

    /// What happened from event number `sequence` on, as far as it is kept.
    pub fn events_since(&self, sequence: u64) -> Events {
        Events::from_sequence(Arc::clone(&self.inner.shared.events), sequence)
    }

    /// What can be seen of the host now. Waits for nothing.
    pub fn status(&self) -> HostStatus {
        let shared = &self.inner.shared;
        HostStatus {
            plugin_dir: self.inner.plugin_dir.display().to_string(),
            watching: (self.inner.watching)().to_string(),
            barrier: format!("{:?}", barrier::kind()).to_lowercase(),
            residents: shared.residents(),
            plugins: shared.directory.all().iter().map(|entry| self.plugin_status(entry)).collect(),
        }
    }

    /// Drains calls, saves state, unloads everything, and ends. Waits for it,
    /// for at most the shutdown timeout.
    ///
    /// # Errors
    /// [`HostError::Stopped`] if it has ended before.
    pub fn shutdown(&self) -> Result<(), HostError> {
        let commands = self.inner.take_commands().ok_or(HostError::Stopped)?;
        let (done, ended) = oneshot::channel();
        if commands.send(Command::Shutdown { done }).is_ok() {
            // An error means that the loop ended, which is what is wanted.
            let _ = ended.blocking_recv();
        }
        self.inner.join();
        Ok(())
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, FailureReport>>) -> Command,
    ) -> Outcome<T> {
        let (done, outcome) = oneshot::channel();
        let commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(commands) = commands {
            // When the loop is gone `done` is dropped, which the outcome tells.
            let _ = commands.send(command(done));
        }
        Outcome { outcome }
    }

    fn plugin_status(&self, entry: &Entry) -> PluginStatus {
        let shared = &self.inner.shared;
        let counters = entry.slot.counters();
        let record = shared.records().get(&entry.name).copied().unwrap_or_default();
        let mut status = PluginStatus {
            name: entry.name.to_string(),
            state: match entry.slot.state() {
                SlotState::Absent => PluginState::Absent,
                SlotState::Live(_) => PluginState::Active,
                SlotState::Closed(_) | SlotState::Sealed(_) => PluginState::HandingOver,
            },
            active: None,
            pinned: None,
            calls: counters.calls,
            errors: counters.errors,
            deadlines_passed: entry.deadlines_passed.load(std::sync::atomic::Ordering::Relaxed),
            in_flight: entry.slot.in_flight().stack as u64,
            leases: leases(&entry.slot.holders()),
            heap_bytes: None,
            threads: 0,
            versions: Vec::new(),
            unloading: Vec::new(),
            last_pause_us: record.last_pause_us,
            unloads_proven: record.unloads_proven,
        };
        if status.state == PluginState::Active
            && let Ok(lease) = entry.slot.lease(Holder::new("status", monotonic_ns()))
        {
            status.heap_bytes = lease.loaded().heap().map(|heap| heap.bytes);
            status.threads = lease.loaded().threads().count();
        }
        if let Some(versions) = shared.catalog().get(entry.name.as_str()) {
            status.active = versions.active.as_ref().map(ToString::to_string);
            status.pinned = versions.pinned().map(ToString::to_string);
            status.versions = versions
                .present()
                .map(|present| VersionStatus {
                    id: present.id.to_string(),
                    path: present.path.display().to_string(),
                    refused: versions.is_refused(&present.id),
                })
                .collect();
        }
        status.unloading = shared
            .unloads()
            .iter()
            .filter(|u| u.id.name == entry.name && !u.is_done())
            .map(unloading)
            .collect();
        status
    }
}

fn unloading(unloading: &Unloading) -> UnloadingStatus {
    let status = unloading.status();
    UnloadingStatus {
        id: unloading.id.to_string(),
        stage: status.stage.as_str().to_owned(),
        since_us: u64::try_from(status.since.elapsed().as_micros()).unwrap_or(u64::MAX),
        in_flight: status.in_flight.stack as u64,
        leases: leases(&status.holders),
        pins: status.pins,
    }
}

fn leases(holders: &[Holder]) -> Vec<LeaseStatus> {
    let now = monotonic_ns();
    holders
        .iter()
        .map(|holder| LeaseStatus {
            holder: holder.label.to_owned(),
            age_us: now.saturating_sub(holder.since) / 1_000,
        })
        .collect()
}

impl Inner {
    fn take_commands(&self) -> Option<Sender<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn join(&self) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(control) = control {
            // A panic of the loop was printed by its thread.
            let _ = control.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The loop ends when nobody can command it any more.
        drop(self.take_commands());
        self.join();
    }
}

/// The result of a command, once it was carried out: await it, or
/// [`wait`](Outcome::wait) for it on a thread without a runtime.
#[must_use = "the command may fail"]
pub struct Outcome<T> {
    outcome: oneshot::Receiver<Result<T, FailureReport>>,
}

impl<T> Outcome<T> {
    /// Waits for it on this thread, which is none of an async runtime.
    ///
    /// # Errors
    /// [`HostError::Failed`] with code and next step, [`HostError::Stopped`].
    pub fn wait(self) -> Result<T, HostError> {
        match self.outcome.blocking_recv() {
            Ok(result) => result.map_err(HostError::Failed),
            Err(_) => Err(HostError::Stopped),
        }
    }
}

impl<T> IntoFuture for Outcome<T>
where
    T: Send + 'static,
{
    type Output = Result<T, HostError>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.outcome.await {
                Ok(result) => result.map_err(HostError::Failed),
                Err(_) => Err(HostError::Stopped),
            }
        })
    }
}

fn beside(plugin_dir: &Path) -> PathBuf {
    plugin_dir.parent().unwrap_or(plugin_dir).join(".replug")
}
