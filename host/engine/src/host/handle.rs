//! The embedder's handle to a host.
//!
//! long: half of the file is the contract of each command.

use super::{
    backoff::Backoff,
    choices::Choices,
    control::{Command, Control},
    data_dir,
    error::HostError,
    first_files::FirstFiles,
    lock::{DataLock, lock},
    options::HostBuilder,
    outcome::Outcome,
    rollback::RolledBack,
    shared::Shared,
    spare::SpareMemory,
    status::HostStatus,
    turns::Turns,
    untrusted::Untrusted,
};
use crate::{
    artifact::{
        stage::Stager,
        trust::{self, Trust},
        watch::Watcher,
    },
    dispatch::{Arm, Share, barrier},
    event::{EventLog, Events, FailureReport},
    failure::Code,
    id::{InvalidPluginName, PluginName, VersionId},
    pipeline::Worker,
    service::{Directory, Plugin, Tables},
    state::store::{SnapshotStore, StoreOptions},
    table_store::TableStoreOptions,
};
use crossbeam::channel::{self, Sender, TrySendError};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::sync::oneshot;

/// Commands that wait for the loop; more are refused.
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
    store: Arc<SnapshotStore>,
    plugin_dir: PathBuf,
    /// Who may rehearse now, and what is set when that has to end.
    rehearsals: (Arc<Turns>, Arc<AtomicBool>),
    commands: Mutex<Option<Sender<Command>>>,
    running: Mutex<Option<Running>>,
}

/// What ends with the host.
struct Running {
    control: JoinHandle<Result<(), String>>,
    /// The data directory is the host's until then at least.
    lock: Arc<DataLock>,
}

impl HostBuilder {
    /// Starts the host.
    ///
    /// # Errors
    /// [`HostError`]: options that contradict each other, a directory that
    /// cannot be used, or no threads.
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
        let data_dir = options.data_dir.clone().unwrap_or_else(|| data_dir::beside(&plugin_dir));
        let lock = lock(&data_dir)?;
        let stager = Stager::new(data_dir.join("private"), options.stage)?;
        if options.trust.is_production() {
            // Whoever can write there could put other bytes in the place of judged ones.
            trust::check_folder(&data_dir)?;
            trust::check_folder(&data_dir.join("private"))?;
        }
        let store_options = StoreOptions {
            max_state_bytes: options.state_bytes_max as u64,
            keep_newest: options.snapshots_kept,
        };
        let store = Arc::new(SnapshotStore::open(data_dir.join("state"), store_options)?);
        let witnesses = Some(data_dir.join("witnesses"));
        let store_options = TableStoreOptions { accept_loss: options.accept_table_loss, witnesses };
        let tables = Tables::new(options.table_limits, data_dir.join("tables"), store_options);
        let choices = Choices::open(data_dir.join("choices.json"))?;
        let directory = Arc::new(
            Directory::new(options.service, options.interfaces.clone(), tables)
                .keeping_calls(options.keep_calls.clone()),
        );
        let events = Arc::new(EventLog::default());
        let worker = Worker::start(options.unload.hook_timeout).map_err(HostError::Thread)?;
        let watcher = Watcher::start(&plugin_dir, options.watch.clone())?;
        let (trust, reader) = (options.trust.clone(), watcher.mode_reader());
        let shared = Shared::new(directory, events, reader, choices, trust, Arc::downgrade(&lock));
        let shared = Arc::new(shared);
        let rehearsals = data_dir.join("rehearsals");
        data_dir::clear(&rehearsals)?;
        let (turns, ends) = (Arc::new(Turns::for_this_machine()), Arc::<AtomicBool>::default());
        let (commands, queue) = channel::bounded(COMMANDS_MAX);
        let control = Control {
            options,
            lock: Arc::clone(&lock),
            shared: Arc::clone(&shared),
            watcher,
            stager,
            store: Arc::clone(&store),
            worker,
            first_files: FirstFiles::of_start_at(Instant::now()),
            unsteady: BTreeMap::new(),
            not_stored: Backoff::default(),
            untrusted: Untrusted::default(),
            in_memory: BTreeMap::new(),
            committed: BTreeMap::new(),
            commit_at: BTreeMap::new(),
            descents: BTreeMap::new(),
            firsts: BTreeMap::new(),
            rehearsals,
            ends: Arc::clone(&ends),
            given_up: Vec::new(),
            postponed: Vec::new(),
            commits: BTreeMap::new(),
            undone: BTreeMap::new(),
            asked: BTreeMap::new(),
            hanging_exports: BTreeSet::new(),
            choices_failed: None,
            turns: Arc::clone(&turns),
            spare: SpareMemory::default(),
            rewatch_at: None,
            ends_at: None,
        };
        let control = thread::Builder::new()
            .name("replug-control".to_owned())
            .spawn(move || control.run(&queue))
            .map_err(HostError::Thread)?;
        Ok(Host {
            inner: Arc::new(Inner {
                shared,
                store,
                plugin_dir,
                rehearsals: (turns, ends),
                commands: Mutex::new(Some(commands)),
                running: Mutex::new(Some(Running { control, lock })),
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
    /// The command is accepted or refused ([`HostError::Busy`]) at once and
    /// carried out in order; the result is both a future and something to wait
    /// for.
    pub fn activate(&self, name: &PluginName, version: Option<semver::Version>) -> Outcome<VersionId> {
        self.ask(|done| Command::Activate { name: name.clone(), version, done })
    }

    /// Lets `version` serve `share` of a plugin's calls beside the version that
    /// serves, or changes the share of one that does so already. Calls with a
    /// [sticky key](crate::CallOptions::sticky_key) go over by key, others by
    /// sequence. Both versions have to be stateless. While a version is tried,
    /// files that come or go change nothing.
    ///
    /// Fails with `route.split` while another version is tried,
    /// `route.shared_state`, `call.not_active`, or as a deployment does.
    pub fn try_version(
        &self,
        name: &PluginName,
        version: semver::Version,
        share: Share,
    ) -> Outcome<VersionId> {
        self.ask(|done| Command::Try { name: name.clone(), version, share, done })
    }

    /// Sends the named [callers](crate::CallOptions::caller) to one arm of every
    /// trial of the plugin, whatever its share; others are pinned no more. A
    /// plugin that calls is a caller by its own name.
    ///
    /// # Errors
    /// [`HostError::Failed`] with `call.unknown_plugin`: no file of the plugin
    /// was seen.
    pub fn pin_callers(
        &self,
        name: &PluginName,
        arms: impl IntoIterator<Item = (String, Arm)>,
    ) -> Result<(), HostError> {
        let entries = self.inner.shared.directory.all();
        let Some(entry) = entries.iter().find(|entry| entry.name == *name) else {
            let message = format!("no file of plugin {name} was seen");
            return Err(HostError::Failed(FailureReport::with_code(Code::CallUnknownPlugin, message)));
        };
        entry.pin(arms.into_iter().collect());
        Ok(())
    }

    /// Lets the version that is being tried serve all calls; the result is
    /// which. Fails with `route.not_split` if none is.
    pub fn promote(&self, name: &PluginName) -> Outcome<VersionId> {
        self.ask(|done| Command::Promote { name: name.clone(), done })
    }

    /// Makes the version before serve again: ends a trial, or goes back to what
    /// is kept ready during the [probation](HostBuilder::probation). On this
    /// thread, at once, whatever the host is doing; microseconds.
    ///
    /// `from` is the version to be left, so that of two who ask, one goes back
    /// and the other does not go back further; none for whichever came last.
    /// The version that is left is not tried again before its file changes, and
    /// the one that serves again stays until a new file comes or a version is
    /// [activated](Host::activate).
    ///
    /// # Errors
    /// [`HostError::Failed`] with `rollback.not_warm`: there is nothing to go
    /// back to, or it is not `from` that came last; `call.unknown_plugin`.
    /// [`HostError::Stopped`].
    pub fn roll_back(&self, name: &PluginName, from: Option<&VersionId>) -> Result<RolledBack, HostError> {
        self.runs()?;
        self.inner.shared.roll_back(name, from).map_err(HostError::Failed)
    }

    /// Ends the probation of the version that serves: the one before is
    /// unloaded. The result is which serves. Fails with `rollback.not_warm` if
    /// it is on none.
    pub fn commit(&self, name: &PluginName) -> Outcome<VersionId> {
        self.ask(|done| Command::Commit { name: name.clone(), done })
    }

    /// Pauses the sweep of a plugin's tables, now and after later swaps, or lets
    /// it go on; also the one by which an earlier version is made able to read
    /// them before it is deployed. Rows that are read are converted all the same. It lasts as long
    /// as the host.
    pub fn pause_sweep(&self, name: &PluginName, pause: bool) {
        self.inner.shared.sweep_pauses.set(name, pause);
    }

    /// Asks other things of files from now on: keys and digests that were named or
    /// withdrawn. All files are judged anew. What is in memory serves on; if nobody
    /// vouches for it any more, that is an [event](crate::event::EventKind::Distrusted)
    /// and stands in the [status](crate::PluginStatus::distrusted).
    ///
    /// Fails with `host.options` if the host is one for development and this is not, or
    /// the other way round.
    pub fn set_trust(&self, trust: Trust) -> Outcome<()> {
        self.ask(|done| Command::SetTrust { trust, done })
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
            watching: shared.watching().to_string(),
            trusts_anyone: !shared.trust().is_production(),
            barrier: barrier::kind().as_str().to_owned(),
            residents: shared.residents(),
            plugins: shared.directory.all().iter().map(|entry| shared.status_of(entry)).collect(),
        }
    }

    /// Drains calls, saves state, unloads everything, and ends. Blocks this thread
    /// for at most the shutdown timeout, and half a second more where disks of
    /// tables hang, after what the host is just doing; async code runs it where
    /// blocking is allowed.
    ///
    /// The data directory is free for another host then; where a disk hangs, when
    /// that is over and the tables on it are closed, or when the process ends. Until
    /// then another host is refused ([`HostError::Locked`]).
    ///
    /// # Errors
    /// [`HostError::Stopped`] if it has ended before, [`HostError::Panicked`]
    /// if it ended by a panic, so that something may not have been saved.
    pub fn shutdown(&self) -> Result<(), HostError> {
        let commands = self.inner.take_commands().ok_or(HostError::Stopped)?;
        let (done, ended) = channel::bounded(1);
        if commands.send(Command::Shutdown { done }).is_ok() {
            // An error means that the loop ended, which `join` tells more of.
            let _ = ended.recv();
        }
        self.inner.join()
    }

    /// Where state is saved.
    pub(super) fn store(&self) -> &Arc<SnapshotStore> {
        &self.inner.store
    }

    /// Who may rehearse now, and what is set when that has to end.
    pub(super) fn rehearsals(&self) -> (&Arc<Turns>, &AtomicBool) {
        let (turns, ends) = &self.inner.rehearsals;
        (turns, ends)
    }

    /// Whether it has not ended.
    pub(super) fn runs(&self) -> Result<(), HostError> {
        let commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_ref().map_or(Err(HostError::Stopped), |_| Ok(()))
    }

    pub(super) fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, FailureReport>>) -> Command,
    ) -> Outcome<T> {
        let (done, answer) = oneshot::channel();
        let commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(commands) = commands.as_ref() else {
            return Outcome::not_accepted(HostError::Stopped);
        };
        match commands.try_send(command(done)) {
            Ok(()) => Outcome::later(answer),
            Err(TrySendError::Full(_)) => Outcome::not_accepted(HostError::Busy { waiting: COMMANDS_MAX }),
            Err(TrySendError::Disconnected(_)) => Outcome::not_accepted(HostError::Stopped),
        }
    }
}

impl Inner {
    fn take_commands(&self) -> Option<Sender<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn join(&self) -> Result<(), HostError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { control, lock }) = running else {
            return Ok(());
        };
        let ended = control.join();
        drop(lock);
        let message = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => message,
            // Its panic was printed by its thread.
            Err(_) => "the control thread ended".to_owned(),
        };
        Err(HostError::Panicked { message })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The loop ends when nobody can command it any more.
        drop(self.take_commands());
        // There is nobody to tell; the events say it too.
        let _ = self.join();
    }
}
