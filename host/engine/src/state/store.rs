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

mod disk;
mod error;
mod name;
mod folder;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use name::Snapshot;

use super::envelope::{Envelope, OVERHEAD_BYTES};
use crate::failure::{Code, Failure};
use disk::{Disk, RealDisk, private_folder};
use error::{io_error, is_full, sync_error};
use folder::{Scan, entries, remove_temporaries, scan};
use name::{Name, is_plugin_name};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
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

impl Default for StoreOptions {
    /// 256 MiB; the 5 newest.
    fn default() -> Self {
        StoreOptions { max_state_bytes: 256 * 1024 * 1024, keep_newest: 5 }
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
    health: Mutex<Health>,
}

#[derive(PartialEq)]
enum Health {
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
    /// Old snapshots that could not be removed.
    pub problems: Vec<StoreError>,
}

/// The outcome of a search.
#[derive(Debug)]
#[must_use = "the problems have to be reported"]
pub struct Lookup {
    /// The newest sound snapshot, if there is one.
    pub found: Option<Found>,
    /// Newer ones that are damaged and were passed over, newest first.
    pub problems: Vec<StoreError>,
}

/// A snapshot that was read and passed every check.
#[derive(Debug)]
pub struct Found {
    /// Its file.
    pub snapshot: Snapshot,
    /// What it holds.
    pub envelope: Envelope,
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
        Ok(SnapshotStore { folder, options, disk, health: Mutex::new(Health::Sound) })
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
        let size = envelope.payload.len() as u64;
        let limit = self.options.max_state_bytes;
        if size > limit {
            let plugin = envelope.plugin.clone();
            return Err(StoreError::TooLarge { plugin, size, limit });
        }
        let folder = self.plugin_folder(&envelope.plugin)?;
        let mut health = self.lock();
        if *health == Health::SyncFailed {
            return Err(StoreError::SyncFailed { folder: self.folder.clone() });
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
        Ok(Saved { snapshot, problems })
    }

    /// The plugin's newest sound snapshot.
    ///
    /// # Errors
    /// Damaged snapshots are no error, but [problems](Lookup::problems). An
    /// error is what would be put right by more than taking an older one: a
    /// file that cannot be read, is above the limit, or is of a newer host.
    pub fn latest(&self, plugin: &str) -> Result<Lookup, StoreError> {
        self.search(plugin, |_| true)
    }

    /// The plugin's newest sound snapshot of one schema version.
    ///
    /// # Errors
    /// As for [`SnapshotStore::latest`].
    pub fn latest_of_schema(&self, plugin: &str, schema_version: u32) -> Result<Lookup, StoreError> {
        self.search(plugin, |snapshot| snapshot.schema_version() == schema_version)
    }

    /// The plugin's snapshots, newest first, by their names; damaged ones are
    /// among them.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be read.
    pub fn list(&self, plugin: &str) -> Result<Vec<Snapshot>, StoreError> {
        let folder = self.plugin_folder(plugin)?;
        let _held = self.lock();
        Ok(scan(&folder)?.snapshots)
    }

    fn search(&self, plugin: &str, wanted: impl Fn(&Snapshot) -> bool) -> Result<Lookup, StoreError> {
        let folder = self.plugin_folder(plugin)?;
        let _held = self.lock();
        let Scan { snapshots, mut problems } = scan(&folder)?;
        for snapshot in snapshots.into_iter().filter(wanted) {
            match self.read(plugin, &snapshot) {
                Ok(envelope) => {
                    return Ok(Lookup { found: Some(Found { snapshot, envelope }), problems });
                }
                Err(error) if error.code() == Code::StateCorrupt => problems.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(Lookup { found: None, problems })
    }

    fn read(&self, plugin: &str, snapshot: &Snapshot) -> Result<Envelope, StoreError> {
        let path = snapshot.path();
        let file = File::open(path).map_err(io_error("open", path))?;
        let size = file.metadata().map_err(io_error("read", path))?.len();
        let limit = self.options.max_state_bytes.saturating_add(OVERHEAD_BYTES);
        if size > limit {
            return Err(StoreError::TooLarge { plugin: plugin.into(), size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        let envelope = Envelope::open(&bytes, self.options.max_state_bytes)
            .map_err(|source| StoreError::Envelope { path: path.into(), source })?;
        let sha256 = bytes.last_chunk().expect("an envelope ends in its digest");
        let name = Name::new(snapshot.sequence(), envelope.taken_at_unix_ms, envelope.schema_version, sha256);
        if envelope.plugin != plugin || name != snapshot.name {
            return Err(StoreError::Misplaced { path: path.into(), plugin: envelope.plugin });
        }
        Ok(envelope)
    }

    /// Writes the envelope; the plugin's snapshots with it, newest first.
    fn write_newest(&self, folder: &Path, envelope: &Envelope) -> Result<Vec<Snapshot>, StoreError> {
        make_folder(&*self.disk, folder)?;
        let mut snapshots = scan(folder)?.snapshots;
        let sequence = snapshots.first().map_or(0, Snapshot::sequence).saturating_add(1);
        let sealed = envelope.seal();
        let name = Name::new(sequence, envelope.taken_at_unix_ms, envelope.schema_version, &sealed.sha256);
        let (path, temporary) = name.paths(folder);
        self.write_durably(&temporary, &path, &sealed.bytes).inspect_err(|_| {
            // What cannot be removed now is removed when the store is opened;
            // a renamed file is whole, and was only not confirmed.
            let _ = fs::remove_file(&temporary);
            let _ = fs::remove_file(&path);
        })?;
        snapshots.insert(0, Snapshot { path, name });
        Ok(snapshots)
    }

    fn write_durably(&self, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = self.disk.create(temporary).map_err(io_error("create", temporary))?;
        self.disk.write(&mut file, bytes).map_err(io_error("write", temporary))?;
        self.disk.sync(&file).map_err(sync_error(temporary))?;
        drop(file);
        self.disk.rename(temporary, path).map_err(io_error("rename", temporary))?;
        let folder = path.parent().expect("a snapshot lies in its plugin's folder");
        self.disk.sync_folder(folder).map_err(sync_error(folder))
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

    fn lock(&self) -> MutexGuard<'_, Health> {
        // A panic in between leaves files as a crash would, and those are sound.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a private folder, durably if it was not there.
fn make_folder(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let missing = !folder.is_dir();
    private_folder(folder).map_err(io_error("make", folder))?;
    if missing {
        let parent = match folder.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        disk.sync_folder(parent).map_err(sync_error(parent))?;
    }
    Ok(())
}
