//! Looking snapshots up: the newest sound one, one by its number, or all with
//! what is wrong with them.
//!
//! What is returned passed every check: complete, undamaged, within the limits,
//! and of the plugin, the time and the schema that its name says. Nothing here
//! writes.

use super::SnapshotStore;
use super::error::{StoreError, io_error};
use super::folder::{Scan, entries, scan};
use super::name::{Name, Snapshot};
use crate::failure::{Code, Failure};
use crate::state::envelope::{Envelope, hex};
use semver::Version;
use std::fs::File;
use std::io::{ErrorKind, Read};

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

/// A snapshot that was looked at.
#[derive(Debug)]
pub struct Examined {
    /// Its file.
    pub snapshot: Snapshot,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What it holds, or why it cannot be used.
    pub content: Result<Sound, StoreError>,
}

/// What a snapshot that passed every check holds, but for the state itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The plugin version that exported the state.
    pub plugin_version: Version,
    /// Bytes of the state, unpacked.
    pub state_bytes: u64,
    /// The digest that ends the file, in hexadecimal.
    pub sha256: String,
}

/// A snapshot as it leaves the store: a file that another host can take in.
#[derive(Debug)]
pub struct Exported {
    /// Its file in the store.
    pub snapshot: Snapshot,
    /// The sealed envelope.
    pub bytes: Vec<u8>,
}

impl SnapshotStore {
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

    /// The plugin's snapshot of that number, or without one the newest that is
    /// sound: what a start would restore.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none; a snapshot that was asked for by
    /// number is also an error if it cannot be used.
    pub fn find(&self, plugin: &str, sequence: Option<u64>) -> Result<Found, StoreError> {
        self.find_file(plugin, sequence).map(|(found, _)| found)
    }

    /// The file of a snapshot, found as by [`SnapshotStore::find`].
    ///
    /// # Errors
    /// As for [`SnapshotStore::find`].
    pub fn export(&self, plugin: &str, sequence: Option<u64>) -> Result<Exported, StoreError> {
        self.find_file(plugin, sequence).map(|(found, bytes)| Exported { snapshot: found.snapshot, bytes })
    }

    /// All snapshots of a plugin, newest first, each read and checked; the disk
    /// is free for saves between two of them.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be read. What is wrong with a
    /// single snapshot is in its [content](Examined::content).
    pub fn examine(&self, plugin: &str) -> Result<Vec<Examined>, StoreError> {
        let mut all = Vec::new();
        for snapshot in self.list(plugin)? {
            let _held = self.lock();
            let content = self.read_file(plugin, &snapshot).and_then(|bytes| {
                let envelope = self.check(plugin, &snapshot, &bytes)?;
                Ok(Sound {
                    plugin_version: envelope.plugin_version,
                    state_bytes: envelope.payload.len() as u64,
                    sha256: hex(digest_of(&bytes)),
                })
            });
            let file_bytes = match snapshot.path().symlink_metadata() {
                Ok(metadata) => metadata.len(),
                // Too old to be kept since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(_) => 0,
            };
            all.push(Examined { snapshot, file_bytes, content });
        }
        Ok(all)
    }

    /// The plugins of which the store has, or had, snapshots, by name.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be read.
    pub fn plugins(&self) -> Result<Vec<String>, StoreError> {
        let folders = entries(&self.folder)?.into_iter().filter(|path| path.is_dir());
        let mut names: Vec<String> =
            folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn find_file(&self, plugin: &str, sequence: Option<u64>) -> Result<(Found, Vec<u8>), StoreError> {
        let folder = self.plugin_folder(plugin)?;
        let _held = self.lock();
        let snapshots = scan(&folder)?.snapshots;
        let there = snapshots.iter().map(Snapshot::sequence).collect();
        for snapshot in snapshots {
            if sequence.is_some_and(|sequence| sequence != snapshot.sequence()) {
                continue;
            }
            let bytes = self.read_file(plugin, &snapshot)?;
            match self.check(plugin, &snapshot, &bytes) {
                Ok(envelope) => return Ok((Found { snapshot, envelope }, bytes)),
                Err(error) if sequence.is_none() && error.code() == Code::StateCorrupt => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unknown { plugin: plugin.into(), sequence, there })
    }

    pub(super) fn read(&self, plugin: &str, snapshot: &Snapshot) -> Result<Envelope, StoreError> {
        self.check(plugin, snapshot, &self.read_file(plugin, snapshot)?)
    }

    fn read_file(&self, plugin: &str, snapshot: &Snapshot) -> Result<Vec<u8>, StoreError> {
        let path = snapshot.path();
        let file = File::open(path).map_err(io_error("open", path))?;
        let size = file.metadata().map_err(io_error("read", path))?.len();
        let limit = self.options.max_file_bytes();
        if size > limit {
            return Err(StoreError::TooLarge { plugin: plugin.into(), size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        Ok(bytes)
    }

    /// The envelope in a snapshot's file, once it is what its name says.
    fn check(&self, plugin: &str, snapshot: &Snapshot, bytes: &[u8]) -> Result<Envelope, StoreError> {
        let path = snapshot.path();
        let envelope = Envelope::open(bytes, self.options.max_state_bytes)
            .map_err(|source| StoreError::Envelope { path: path.into(), source })?;
        let sha256 = digest_of(bytes);
        let name = Name::new(snapshot.sequence(), envelope.taken_at_unix_ms, envelope.schema_version, sha256);
        if envelope.plugin != plugin || name != snapshot.name {
            return Err(StoreError::Misplaced { path: path.into(), plugin: envelope.plugin });
        }
        Ok(envelope)
    }
}

/// The digest that ends an envelope which was opened.
fn digest_of(bytes: &[u8]) -> &[u8; 32] {
    bytes.last_chunk().expect("an envelope ends in its digest")
}
