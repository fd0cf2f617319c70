//! A volume: the durable tables of one plugin that share a database, since they
//! share a promise.
//!
//! Every change of any of its tables goes through [`Volume::commit`], one after
//! the other: the inventory, the database and the seal are then always of one
//! mind, and after a crash the volume is as it was after one of the commits. The
//! first error is the last commit: what the disk holds is not known any more.
//!
//! Two volumes and not one, because the database syncs under the lock that its
//! writers take: a table that is kept by the process only would wait for the
//! disk with those that are kept by the disk.

use super::cleaner::Cleaner;
use super::database::{open_database, read};
use super::disk::{Disk, private_folder, sync_folder};
use super::error::{TableStoreError, io_error};
use super::format::{HEAD_KEY, encode_head};
use super::index::Index;
use super::inventory::{Inventory, Remains, TableId, Write};
use super::scan::{Content, Found};
use super::seal::{Seal, Sealed};
use super::witness::Witnesses;
use fjall::{Database, Keyspace, PersistMode};
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a durable table promises of a write that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// It outlives the process, however that ends: the system has it.
    Process,
    /// It outlives the machine: the disk has it.
    Disk,
}

impl Durability {
    pub(super) const ALL: [Durability; 2] = [Durability::Process, Durability::Disk];

    pub(super) fn folder(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Disk => "disk",
        }
    }

    fn mode(self) -> PersistMode {
        match self {
            Durability::Process => PersistMode::Buffer,
            Durability::Disk => PersistMode::SyncAll,
        }
    }
}

/// What a volume stands on: the real thing, but in tests.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) disk: Arc<dyn Disk>,
    /// The number of this boot of the machine.
    pub(super) boot: u128,
    pub(super) witnesses: Witnesses,
}

/// A volume's seal, in its folder.
const SEAL: &str = "seal";

pub(super) struct Volume {
    folder: PathBuf,
    durability: Durability,
    ground: Ground,
    state: Mutex<State>,
}

struct State {
    inventory: Inventory,
    tables: u32,
    /// A commit began and did not end well: the inventory is ahead of the disk.
    broken: bool,
    /// What its error was. Without one it panicked.
    error: Option<TableStoreError>,
    /// `None` once it is closed.
    open: Option<Open>,
}

/// In the order in which it is to be dropped.
struct Open {
    cleaner: Option<Cleaner>,
    seal: Seal,
    witness: Option<Seal>,
    rows: Keyspace,
    database: Database,
}

impl Volume {
    /// Makes a volume without tables in the folder of a store. A crash leaves it
    /// there whole, or not at all.
    pub(super) fn create(
        store: &Path,
        durability: Durability,
        ground: Ground,
    ) -> Result<Volume, TableStoreError> {
        let (folder, unfinished) = (store.join(durability.folder()), unfinished(store, durability));
        private_folder(&unfinished).map_err(io_error("make", &unfinished))?;
        let mut inventory = Inventory::new();
        inventory.commit(std::iter::empty());
        let head = inventory.head();
        {
            let fail = |error| TableStoreError::database("create a database", &folder, error);
            let (database, rows) = open_database(&unfinished).map_err(fail)?;
            rows.insert(HEAD_KEY, encode_head(&head)).map_err(fail)?;
            database.persist(PersistMode::SyncAll).map_err(fail)?;
        }
        Seal::create(unfinished.join(SEAL), Sealed { commit: head.commit, boot: ground.boot })?;
        sync_folder(&unfinished).map_err(io_error("sync", &unfinished))?;
        fs::rename(&unfinished, &folder).map_err(io_error("rename", &unfinished))?;
        sync_folder(store).map_err(io_error("sync", store))?;
        Volume::open(store, durability, ground, false).map(|(volume, _)| volume)
    }

    /// Opens the volume that is there, if its content is what was written.
    pub(super) fn open(
        store: &Path,
        durability: Durability,
        ground: Ground,
        accept_loss: bool,
    ) -> Result<(Volume, Vec<Found>), TableStoreError> {
        let folder = store.join(durability.folder());
        if !folder.join(SEAL).exists() {
            return Err(TableStoreError::corrupt(&folder, "its seal is missing"));
        }
        let (seal, sealed) = Seal::open(folder.join(SEAL))?;
        let Some(sealed) = sealed else {
            return Err(TableStoreError::corrupt(&folder, "its seal fails its checksum"));
        };
        let (database, rows, content) = read(&folder)?;
        let Content { inventory, tables, dead_spaces } = content;
        let commit = inventory.head().commit;
        if commit < sealed.commit {
            let commits = sealed.commit - commit;
            // In the boot in which they were made nothing but damage takes them away.
            let excused = durability == Durability::Process && sealed.boot != ground.boot;
            if !excused {
                let what = format!("its last {commits} commits are missing");
                return Err(TableStoreError::corrupt(&folder, what));
            }
            if !accept_loss {
                return Err(TableStoreError::Loss { folder, commits });
            }
            tracing::warn!(folder = %folder.display(), commits, "the last commits of a table store are lost");
        }
        let seen = ground
            .witnesses
            .seen(durability.folder())?
            .filter(|seen| seen.commit > commit.max(sealed.commit));
        if let Some(seen) = seen {
            let commits = seen.commit - commit;
            // What is not synced may be written out in any order.
            let excused = durability == Durability::Process && seen.boot != ground.boot;
            match (accept_loss, excused) {
                (true, _) => {
                    tracing::warn!(folder = %folder.display(), commits, "a table store is an older copy")
                }
                (false, true) => return Err(TableStoreError::Loss { folder, commits }),
                (false, false) => return Err(TableStoreError::Replaced { folder, commits }),
            }
        }
        let now = Sealed { commit, boot: ground.boot };
        ground.disk.seal(&seal, now)?;
        seal.sync()?;
        let witness = ground.witnesses.begin(durability.folder(), now)?;
        let mut open = Open { cleaner: None, seal, witness, rows, database };
        open.clean(dead_spaces.into_iter().map(|space| Remains { space, index: Index::new() }));
        let state =
            State { inventory, tables: tables.len() as u32, broken: false, error: None, open: Some(open) };
        Ok((Volume { folder, durability, ground, state: Mutex::new(state) }, tables))
    }

    /// A table that is to be created by the next commit.
    pub(super) fn next_table(&self) -> TableId {
        let mut state = self.state.lock();
        state.tables += 1;
        TableId(state.tables - 1)
    }

    /// Whether a thread is at work in it, which a commit would wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.state.is_locked()
    }

    /// Makes these changes, all or none, as durable as the volume promises.
    pub(super) fn commit(
        &self,
        writes: impl Iterator<Item = (TableId, Write)>,
    ) -> Result<(), TableStoreError> {
        let mut state = self.state.lock();
        if state.broken {
            return Err(state.error.clone().unwrap_or_else(|| self.closed()));
        }
        let State { inventory, broken, error, open: Some(open), .. } = &mut *state else {
            return Err(self.closed());
        };
        *broken = true;
        let records = inventory.commit(writes);
        let mut batch = open.database.batch();
        for (key, record) in records.by_key {
            match record {
                Some(record) => batch.insert(&open.rows, key, record),
                None => batch.remove(&open.rows, key),
            }
        }
        let sealed = Sealed { commit: inventory.head().commit, boot: self.ground.boot };
        let disk = &self.ground.disk;
        disk.commit(batch, self.durability.mode())
            .map_err(|error| TableStoreError::database("write", &self.folder, error))
            .and_then(|()| disk.seal(&open.seal, sealed))
            .and_then(|()| open.witness.as_ref().map_or(Ok(()), |witness| disk.seal(witness, sealed)))
            .inspect_err(|failure| *error = Some(failure.clone()))?;
        *broken = false;
        open.clean(records.remains.into_iter());
        Ok(())
    }

    /// Has the database write its rows into files, as it does when they are many.
    #[cfg(test)]
    pub(super) fn write_out(&self) -> fjall::Result<()> {
        let state = self.state.lock();
        state.open.as_ref().map_or(Ok(()), |open| open.rows.rotate_memtable_and_wait())
    }

    /// Writes out everything and gives the files back. Later commits fail.
    pub(super) fn close(&self) -> Result<(), TableStoreError> {
        let mut state = self.state.lock();
        let Some(open) = state.open.take() else { return Ok(()) };
        if state.broken {
            return Err(state.error.clone().unwrap_or_else(|| self.closed()));
        }
        let Open { cleaner, seal, witness, rows, database } = open;
        drop((cleaner, rows));
        let synced = database.persist(PersistMode::SyncAll);
        synced.map_err(|error| TableStoreError::database("sync", &self.folder, error))?;
        seal.sync()?;
        witness.map_or(Ok(()), |witness| witness.sync())
    }

    pub(super) fn closed(&self) -> TableStoreError {
        TableStoreError::Closed { folder: self.folder.clone() }
    }
}

impl Open {
    fn clean(&mut self, remains: impl Iterator<Item = Remains>) {
        for remains in remains {
            if self.cleaner.is_none() {
                let started = Cleaner::start(self.database.clone(), self.rows.clone());
                self.cleaner = started
                    .inspect_err(|error| tracing::warn!(%error, "rows of cleared tables stay on the disk"))
                    .ok();
            }
            if let Some(cleaner) = &self.cleaner {
                cleaner.clean(remains);
            }
        }
    }
}

/// Removes what a crash has left of a volume that was being made.
pub(super) fn remove_unfinished(store: &Path, durability: Durability) -> Result<(), TableStoreError> {
    let folder = unfinished(store, durability);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
    }
    Ok(())
}

fn unfinished(store: &Path, durability: Durability) -> PathBuf {
    store.join(format!("{}.new", durability.folder()))
}
