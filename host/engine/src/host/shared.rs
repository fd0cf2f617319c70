//! What the command loop and the handles share: written by the loop, read by
//! all. Each part has a lock of its own, which is held for moments only.

use super::{
    catalog::Catalog,
    choices::Choices,
    lock::DataLock,
    sweeps::{Pauses, Sweeps},
    waiting::DescentProgress,
};
use crate::{
    artifact::{trust::Trust, watch::WatchMode},
    dispatch::Retired,
    event::{Event, EventKind, EventLog, FailureReport},
    id::{PluginName, VersionId},
    pipeline::Unloading,
    service::{Directory, Serving},
};
use crossbeam::channel::{self, Receiver, Sender};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// Reads how the plugin directory is watched.
pub(super) type ModeReader = Arc<dyn Fn() -> WatchMode + Send + Sync>;

pub(super) struct Shared {
    pub(super) directory: Arc<Directory>,
    pub(super) events: Arc<EventLog>,
    trust: Mutex<Arc<Trust>>,
    catalog: Mutex<Catalog>,
    choices: Choices,
    /// For handles that write to the data directory; gone when the host has ended.
    pub(super) lock: Weak<DataLock>,
    leaving: Mutex<Vec<Leaving>>,
    unloads: Mutex<Vec<Unloading>>,
    standby: Mutex<BTreeMap<PluginName, Standby>>,
    returned: Mutex<Vec<Returned>>,
    ways_back: Mutex<WaysBack>,
    records: Mutex<BTreeMap<PluginName, Record>>,
    sweeps: Mutex<Sweeps>,
    pub(super) sweep_pauses: Arc<Pauses>,
    pub(super) descents: Arc<DescentProgress>,
    watching: Mutex<ModeReader>,
    /// Tells the loop that something waits for it.
    nudges: (Sender<()>, Receiver<()>),
    /// Versions that stay because there was no thread to unload them.
    stranded: AtomicUsize,
}

/// A version that serves no new calls, and whose state is saved when its last
/// call has returned.
pub(super) struct Leaving {
    pub(super) id: VersionId,
    /// Shared with the command loop while it saves the state.
    pub(super) retired: Arc<Retired<Serving>>,
    pub(super) since: Instant,
    /// When its state is saved although calls still run.
    pub(super) until: Instant,
    /// Its state is being saved.
    pub(super) saving: bool,
}

/// A version that was replaced and can serve again at once.
pub(super) struct Standby {
    pub(super) retired: Retired<Serving>,
    /// The end of the probation of the version that replaced it.
    pub(super) until: Instant,
}

/// A version that was rolled back and waits for the loop to unload it.
pub(super) struct Returned {
    pub(super) retired: Retired<Serving>,
    pub(super) since: Instant,
}

/// Plugins that went back, and whose tables have yet to be told: by whoever asked
/// for it, who may wait for a disk.
#[derive(Default)]
pub(super) struct WaysBack {
    pub(super) under_way: Vec<PluginName>,
    /// Those that were told since the loop looked last.
    pub(super) ended: Vec<PluginName>,
}

/// Figures of one plugin that outlive its versions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) last_pause_us: Option<u64>,
    pub(super) unloads_proven: u64,
}

impl Shared {
    pub(super) fn new(
        directory: Arc<Directory>,
        events: Arc<EventLog>,
        watching: ModeReader,
        choices: Choices,
        trust: Trust,
        lock: Weak<DataLock>,
    ) -> Self {
        Shared {
            directory,
            events,
            catalog: Mutex::new(Catalog::with(choices.all(), trust.is_production())),
            trust: Mutex::new(Arc::new(trust)),
            choices,
            lock,
            leaving: Mutex::default(),
            unloads: Mutex::default(),
            standby: Mutex::default(),
            returned: Mutex::default(),
            ways_back: Mutex::default(),
            records: Mutex::default(),
            sweeps: Mutex::default(),
            sweep_pauses: Arc::default(),
            descents: Arc::default(),
            watching: Mutex::new(watching),
            nudges: channel::bounded(1),
            stranded: AtomicUsize::new(0),
        }
    }

    pub(super) fn event(&self, id: Option<&VersionId>, kind: EventKind) {
        self.events.write(id.map(|id| id.name.to_string()), id.map(ToString::to_string), kind);
    }

    /// Numbers an event while what it says cannot change yet; to be told when
    /// it may.
    pub(super) fn note(&self, id: &VersionId, kind: EventKind) -> Arc<Event> {
        self.events.note(Some(id.name.to_string()), Some(id.to_string()), kind)
    }

    /// What is asked of files now.
    pub(super) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&lock(&self.trust))
    }

    pub(super) fn set_trust(&self, trust: Trust) {
        *lock(&self.trust) = Arc::new(trust);
    }

    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        lock(&self.catalog)
    }

    /// Keeps what was decided about versions until a host starts again.
    pub(super) fn keep_choices(&self) -> Result<(), FailureReport> {
        self.choices.keep(|| self.catalog().choices()).map_err(|error| FailureReport::of(&error))
    }

    /// Versions that wait for their last calls, so that their state can be
    /// saved.
    pub(super) fn leaving(&self) -> MutexGuard<'_, Vec<Leaving>> {
        lock(&self.leaving)
    }

    pub(super) fn unloads(&self) -> MutexGuard<'_, Vec<Unloading>> {
        lock(&self.unloads)
    }

    /// Versions that can serve again at once.
    pub(super) fn standby(&self) -> MutexGuard<'_, BTreeMap<PluginName, Standby>> {
        lock(&self.standby)
    }

    /// Versions that were rolled back and wait for the loop to unload them.
    pub(super) fn returned(&self) -> MutexGuard<'_, Vec<Returned>> {
        lock(&self.returned)
    }

    pub(super) fn ways_back(&self) -> MutexGuard<'_, WaysBack> {
        lock(&self.ways_back)
    }

    pub(super) fn records(&self) -> MutexGuard<'_, BTreeMap<PluginName, Record>> {
        lock(&self.records)
    }

    /// The sweeps of all plugins' tables.
    pub(super) fn sweeps(&self) -> MutexGuard<'_, Sweeps> {
        lock(&self.sweeps)
    }

    /// Makes the loop look around now.
    pub(super) fn nudge(&self) {
        // One that waits says enough.
        let _ = self.nudges.0.try_send(());
    }

    /// What makes it do so, for threads that outlast who starts them.
    pub(super) fn nudger(&self) -> Sender<()> {
        self.nudges.0.clone()
    }

    pub(super) fn nudged(&self) -> &Receiver<()> {
        &self.nudges.1
    }

    pub(super) fn watching(&self) -> WatchMode {
        let read = Arc::clone(&lock(&self.watching));
        read()
    }

    pub(super) fn watch_by(&self, reader: ModeReader) {
        *lock(&self.watching) = reader;
    }

    /// A version stays in memory, and nothing can be done about it.
    pub(super) fn strand(&self) {
        // Relaxed: a count that orders nothing.
        self.stranded.fetch_add(1, Ordering::Relaxed);
    }

    /// Versions that should be gone and are not.
    pub(super) fn residents(&self) -> usize {
        let is_resident =
            |unloading: &&Unloading| !unloading.is_done() && !unloading.status().pins.is_empty();
        self.unloads().iter().filter(is_resident).count() + self.stranded.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced whole or pushed to: a panic leaves
    // nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
