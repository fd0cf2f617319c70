//! Snapshots on disk: the envelopes of every plugin's saved states, newest
//! first, the damaged ones named and passed over.
//!
//! A save is atomic and durable: a temporary file is written, synced and
//! renamed, then its folder is synced. Whatever fails on the way, the snapshots
//! from before are untouched and the temporary file is removed, at the latest
//! when the store is opened again. A file system that fails to sync is not
//! trusted again: the store then refuses to save until it is opened anew, but
//! still reads.
//!
//! Everything here blocks on the disk: call it from a thread that may. One
//! store owns its folder; the lock on the host's data directory keeps a second
//! process out. It never looks into a payload and never decides what to load.

mod error;
mod disk;
mod name;
mod folder;
mod read;
mod newest;
mod portable;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use name::Snapshot;
pub use portable::write_export;
pub use read::{Examined, Exported, Found, Lookup, Sound};

use super::envelope::{Envelope, OVERHEAD_BYTES};
use disk::{Disk, RealDisk, folder_of, private_folder, write_durably};
use error::{io_error, is_full, sync_error};
use folder::{entries, remove_temporaries, scan};
use name::{Name, is_plugin_name};
use newest::{Newest, digest_of_state};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The store's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The largest payload that is saved or loaded, in bytes.
    pub max_state_bytes: u64,
    /// How many of a plugin's newest snapshots are kept; at least one. The
    /// newest of each schema version is kept besides, for rollbacks.
    pub keep_newest: usize,
}

impl StoreOptions {
    /// The largest file of a snapshot, in bytes.
    pub fn max_file_bytes(&self) -> u64 {
        self.max_state_bytes.saturating_add(OVERHEAD_BYTES)
    }
}

impl Default for StoreOptions {
    /// 256 MiB; the 10 newest, since a deployment takes two and a restore three.
    fn default() -> Self {
        StoreOptions { max_state_bytes: 256 * 1024 * 1024, keep_newest: 10 }
    }
}

/// The snapshots of all plugins, in one folder with a folder for each.
///
/// ```
/// use replug_host::state::envelope::Envelope;
/// use replug_host::state::store::{SnapshotStore, StoreOptions};
///
/// # let folder = tempfile::tempdir()?;
/// let store = SnapshotStore::open(folder.path().join("state"), StoreOptions::default())?;
/// let envelope = Envelope {
///     plugin: "counter".into(),
///     schema_version: 1,
///     plugin_version: semver::Version::new(1, 0, 0),
///     taken_at_unix_ms: 1_732_150_000_000,
///     payload: vec![0xa0],
/// };
/// store.save(&envelope)?;
///
/// let latest = store.latest("counter")?;
/// assert_eq!(latest.found.map(|found| found.envelope), Some(envelope));
/// assert!(latest.problems.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SnapshotStore {
    folder: PathBuf,
    options: StoreOptions,
    disk: Box<dyn Disk>,
    /// Held by every operation: a save retires what a lookup may be reading.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: Health,
    newest: Newest,
}

#[derive(Default, PartialEq)]
enum Health {
    #[default]
    Sound,
    /// A sync failed: what the file system says it holds cannot be believed.
    SyncFailed,
}

/// A saved snapshot.
#[derive(Debug)]
#[must_use = "the problems have to be reported"]
pub struct Saved {
    /// Its file.
    pub snapshot: Snapshot,
    /// Whether it was written now; else the newest one had this state already.
    pub is_new: bool,
    /// Old snapshots that could not be removed.
    pub problems: Vec<StoreError>,
}

impl SnapshotStore {
    /// Opens the store in `folder`, which is made if it is missing and closed
    /// to everyone but its owner. Removes what unfinished saves have left.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be made, read or cleaned;
    /// [`StoreError::Sync`] if a new one is not confirmed by the disk.
    pub fn open(folder: impl Into<PathBuf>, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(Box::new(RealDisk), folder.into(), options)
    }

    fn open_on(disk: Box<dyn Disk>, folder: PathBuf, options: StoreOptions) -> Result<Self, StoreError> {
        make_folder(&*disk, &folder)?;
        for plugin in entries(&folder)? {
            if plugin.is_dir() {
                remove_temporaries(&plugin)?;
            }
        }
        Ok(SnapshotStore { folder, options, disk, state: Mutex::default() })
    }

    /// Its limits.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Saves `envelope` as its plugin's newest snapshot, durably, and removes
    /// the snapshots that need not be kept any longer.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] and [`StoreError::PluginName`] before anything
    /// is written; [`StoreError::Io`] and [`StoreError::Sync`] if the disk is
    /// full or fails, with all snapshots from before intact;
    /// [`StoreError::SyncFailed`] if that has happened already.
    pub fn save(&self, envelope: &Envelope) -> Result<Saved, StoreError> {
        self.save_on(envelope, false)
    }

    /// The same, if the plugin's newest snapshot holds another state, or one of
    /// another schema. Otherwise nothing is written, that snapshot stays what a
    /// start restores, and no older one makes room.
    ///
    /// # Errors
    /// As for [`SnapshotStore::save`].
    pub fn save_changed(&self, envelope: &Envelope) -> Result<Saved, StoreError> {
        self.save_on(envelope, true)
    }

    fn save_on(&self, envelope: &Envelope, if_changed: bool) -> Result<Saved, StoreError> {
        let size = envelope.payload.len() as u64;
        let limit = self.options.max_state_bytes;
        if size > limit {
            let plugin = envelope.plugin.clone();
            return Err(StoreError::TooLarge { plugin, size, limit });
        }
        let folder = self.plugin_folder(&envelope.plugin)?;
        let digest = digest_of_state(envelope);
        let State { health, newest } = &mut *self.lock();
        if *health == Health::SyncFailed {
            return Err(StoreError::SyncFailed { folder: self.folder.clone() });
        }
        if if_changed
            && let Some(snapshot) = scan(&folder)?.snapshots.into_iter().next()
            && snapshot.schema_version() == envelope.schema_version
            && newest.state(&envelope.plugin, &snapshot, || self.read(&envelope.plugin, &snapshot).ok())
                == Some(digest)
        {
            return Ok(Saved { snapshot, is_new: false, problems: Vec::new() });
        }
        let saved = self.write_newest(&folder, envelope);
        if let Err(StoreError::Sync { source, .. }) = &saved
            && !is_full(source)
        {
            *health = Health::SyncFailed;
        }
        let snapshots = saved?;
        let problems = self.retire(&snapshots);
        let snapshot = snapshots.into_iter().next().expect("holds the one just saved");
        newest.note(&envelope.plugin, &snapshot, digest);
        Ok(Saved { snapshot, is_new: true, problems })
    }

    /// Writes the envelope; the plugin's snapshots with it, newest first.
    fn write_newest(&self, folder: &Path, envelope: &Envelope) -> Result<Vec<Snapshot>, StoreError> {
        make_folder(&*self.disk, folder)?;
        let mut snapshots = scan(folder)?.snapshots;
        let sequence = snapshots.first().map_or(0, Snapshot::sequence).saturating_add(1);
        let sealed = envelope.seal();
        let name = Name::new(sequence, envelope.taken_at_unix_ms, envelope.schema_version, &sealed.sha256);
        let (path, temporary) = name.paths(folder);
        write_durably(&*self.disk, &temporary, &path, &sealed.bytes).inspect_err(|_| {
            // What cannot be removed now is removed when the store is opened;
            // a renamed file is whole, and was only not confirmed.
            let _ = fs::remove_file(&temporary);
            let _ = fs::remove_file(&path);
        })?;
        snapshots.insert(0, Snapshot { path, name });
        Ok(snapshots)
    }

    /// Removes the snapshots that are neither among the newest nor the newest
    /// of their schema version; `snapshots` come newest first.
    fn retire(&self, snapshots: &[Snapshot]) -> Vec<StoreError> {
        let mut schemas = HashSet::new();
        let keep = self.options.keep_newest.max(1);
        let mut problems = Vec::new();
        for (place, snapshot) in snapshots.iter().enumerate() {
            let newest_of_schema = schemas.insert(snapshot.schema_version());
            if place >= keep && !newest_of_schema {
                let path = snapshot.path();
                problems.extend(fs::remove_file(path).map_err(io_error("remove", path)).err());
            }
        }
        problems
    }

    fn plugin_folder(&self, plugin: &str) -> Result<PathBuf, StoreError> {
        if !is_plugin_name(plugin) {
            return Err(StoreError::PluginName { name: plugin.into() });
        }
        Ok(self.folder.join(plugin))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves files as a crash would, and those are sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a private folder, durably if it was not there.
fn make_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let missing = !folder.is_dir();
    private_folder(folder).map_err(io_error("make", folder))?;
    if missing {
        let parent = folder_of(folder);
        disk.sync_folder(parent).map_err(sync_error(parent))?;
    }
    Ok(())
}
