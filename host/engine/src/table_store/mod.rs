//! Durable tables: the store behind their journals, one folder for a plugin.
//!
//! A store keeps what tables write, and gives the tables back, whole, when it is
//! opened. Rows are served from memory; the store is only written to.
//!
//! ```text
//! <data>/tables/<plugin>/process/   tables that outlive the process
//!                       /disk/      tables that outlive the machine
//!                             seal  the number of the last commit
//!                             rows/ a log-structured database (fjall)
//! ```
//!
//! # What it promises
//!
//! - After a crash a table is as it was after one of its changes, and has every
//!   change that was acknowledged: by `append` or by `wait`, see [`TableJournal`].
//! - Nothing damaged is served. Each record has a checksum, the head of a
//!   volume proves the whole set of rows at the last commit (see `format`), and
//!   the `seal` says which commit that was. What does not agree is
//!   [`TableStoreError::Corrupt`] when the store is opened, and none of the
//!   plugin's tables is served from it; other plugins have stores of their own.
//! - A folder that was removed, whole or that of one durability, and one that was
//!   put back from an older copy are [`TableStoreError::Replaced`], if the store
//!   has [witnesses](TableStoreOptions::witnesses) elsewhere. They are exact but
//!   for a power loss, after which they may have seen less than there was. Whoever
//!   replaces them together with the folder has another store.
//! - An error of the disk is final: told to everyone who waits and everyone who
//!   writes later, never tried again.
//! - A table that outlives the process but not the machine may lose its last
//!   changes with the machine's power. If that is seen it is
//!   [`TableStoreError::Loss`], and somebody has to accept it.
//!
//! What a put costs without a sync is microseconds, but for the rare one that
//! has to wait until the database has written out 8 MiB of rows (tens of
//! milliseconds). Opening reads all rows, and at most 64 MiB of journal: some two
//! seconds for a million rows.
//!
//! Everything here but `append` may block on the disk. The lock on the host's
//! data directory keeps a second process out; a second store on one folder is
//! refused.
//!
//! # The modules, bottom up
//!
//! `error`, `format` (records), `seal`, `disk` (calls that can fail), `index` and
//! `inventory` (what is there, in memory), `cleaner`, `scan` (reading it all),
//! `database`, `witness` (what was seen of it, elsewhere), `volume` (one commit after
//! the other), `committer` (many in one), `journal`.

mod error;
mod format;
mod seal;
mod disk;
mod index;
mod inventory;
mod cleaner;
mod scan;
mod database;
mod witness;
mod volume;
mod committer;
mod journal;
#[cfg(test)]
mod tests;

pub use error::TableStoreError;
pub use journal::TableJournal;
pub use volume::Durability;

use crate::table::Table;
use disk::{RealDisk, private_folder, sync_folder};
use error::io_error;
use inventory::{TableId, Write};
use journal::Lane;
use parking_lot::Mutex;
use scan::Found;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use volume::{Ground, Volume, remove_unfinished};
use witness::Witnesses;

/// Bytes that a table's name may have.
pub const NAME_BYTES_MAX: usize = 128;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableStoreOptions {
    /// Go on without the commits that a power loss took, of tables that are kept
    /// by the process only, or that are missing because the folder was removed or
    /// replaced. The operator's decision: see [`TableStoreError::Loss`] and
    /// [`TableStoreError::Replaced`].
    pub accept_loss: bool,
    /// A folder outside of the store, for a few bytes that tell that it was there
    /// and how far it had come; made if it is missing. Without it nobody sees that
    /// the store is gone, or is older than it was.
    pub witnesses: Option<PathBuf>,
}

/// The durable tables of one plugin.
///
/// ```
/// use replug_host::table::{Limits, Table, View, Write};
/// use replug_host::table_store::{Durability, TableStore, TableStoreOptions};
///
/// # let folder = tempfile::tempdir()?;
/// let folder = folder.path().join("tables/notes");
/// let opened = TableStore::open(&folder, TableStoreOptions::default())?;
/// let sessions = Table::new("sessions", Limits::NONE);
/// sessions.attach(opened.store.create("sessions", Durability::Process)?)?;
/// let view = View::new(&sessions, 1);
/// view.activate()?;
/// view.put(b"ann", &Write::new(b"since noon"))?;
/// opened.store.close()?;
///
/// let opened = TableStore::open(&folder, TableStoreOptions::default())?;
/// let sessions = &opened.tables[0].table;
/// assert_eq!((sessions.name(), sessions.size().rows), ("sessions", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableStore {
    folder: PathBuf,
    ground: Ground,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lanes: BTreeMap<Durability, Lane>,
    tables: BTreeMap<String, Kept>,
    closed: bool,
}

/// A table of the store.
struct Kept {
    id: TableId,
    durability: Durability,
    removed: Arc<AtomicBool>,
}

/// A store, and the tables that it kept.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: TableStore,
    /// Its tables, whole, each with its journal attached and without limits:
    /// [`Table::set_limits`].
    pub tables: Vec<RestoredTable>,
}

/// A table that a store kept.
#[derive(Debug)]
pub struct RestoredTable {
    /// The table.
    pub table: Arc<Table>,
    /// Its journal, for those who wait without a thread.
    pub journal: Arc<TableJournal>,
    /// What it promises.
    pub durability: Durability,
}

impl TableStore {
    /// Opens the store in `folder`, which is made if it is missing and closed to
    /// everyone but its owner. Reads all of it.
    ///
    /// # Errors
    /// [`TableStoreError::Corrupt`], [`TableStoreError::Loss`] and
    /// [`TableStoreError::Replaced`]: it is not what was written;
    /// [`TableStoreError::Io`] and [`TableStoreError::Database`]: it cannot be read,
    /// or is in use.
    pub fn open(
        folder: impl AsRef<Path>,
        options: TableStoreOptions,
    ) -> Result<OpenedStore, TableStoreError> {
        let TableStoreOptions { accept_loss, witnesses } = options;
        let witnesses = Witnesses::in_folder(witnesses);
        let ground = Ground { disk: Arc::new(RealDisk), boot: seal::current_boot(), witnesses };
        Self::open_on(ground, folder.as_ref(), accept_loss)
    }

    fn open_on(ground: Ground, folder: &Path, accept_loss: bool) -> Result<OpenedStore, TableStoreError> {
        // Before anything is made where it was: it may be put back.
        for durability in Durability::ALL {
            if !folder.join(durability.folder()).exists() {
                ground.witnesses.miss(folder, durability.folder(), accept_loss)?;
            }
        }
        let missing = !folder.is_dir();
        private_folder(folder).map_err(io_error("make", folder))?;
        if missing && let Some(parent) = folder.parent() {
            sync_folder(parent).map_err(io_error("sync", parent))?;
        }
        let store = TableStore { folder: folder.into(), ground, state: Mutex::default() };
        let mut tables = Vec::new();
        for durability in Durability::ALL {
            remove_unfinished(folder, durability)?;
            if !folder.join(durability.folder()).exists() {
                continue;
            }
            let (volume, found) = Volume::open(folder, durability, store.ground.clone(), accept_loss)?;
            let lane = store.start(volume, durability)?;
            let mut state = store.state.lock();
            for Found { id, name, restore, .. } in found {
                let journal = state.keep(&name, id, durability, lane.clone());
                let table = restore.finish(Some(journal.clone()));
                tables.push(RestoredTable { table, journal, durability });
            }
            state.lanes.insert(durability, lane);
        }
        Ok(OpenedStore { store, tables })
    }

    /// Makes what tables of this durability need, which takes longer than a table
    /// of its own does.
    ///
    /// # Errors
    /// It could not be made.
    pub fn make_ready(&self, durability: Durability) -> Result<(), TableStoreError> {
        self.lane(&mut self.state.lock(), durability).map(drop)
    }

    /// A new table's journal, to be [attached](Table::attach). The table is in
    /// the store when this returns, without rows.
    ///
    /// # Errors
    /// [`TableStoreError::Name`] and [`TableStoreError::Exists`]; else the store
    /// has failed, or could not be made.
    pub fn create(&self, name: &str, durability: Durability) -> Result<Arc<TableJournal>, TableStoreError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(TableStoreError::Name { name: name.into(), max: NAME_BYTES_MAX });
        }
        let mut state = self.state.lock();
        if state.tables.contains_key(name) {
            return Err(TableStoreError::Exists { folder: self.folder.clone(), name: name.into() });
        }
        let lane = self.lane(&mut state, durability)?;
        let id = lane.volume().next_table();
        lane.wait(lane.append(id, Write::Create { name: name.into() })?)?;
        Ok(state.keep(name, id, durability, lane))
    }

    /// Removes a table and its rows, if there is one of this name. Its journal
    /// takes no more changes.
    ///
    /// # Errors
    /// The store has failed; the table is as it was.
    pub fn remove(&self, name: &str) -> Result<(), TableStoreError> {
        let mut state = self.state.lock();
        let Some(Kept { id, durability, removed }) = state.tables.get(name) else { return Ok(()) };
        removed.store(true, Relaxed);
        if let Some(lane) = state.lanes.get(durability) {
            lane.wait(lane.append(*id, Write::Drop)?)?;
        }
        state.tables.remove(name);
        Ok(())
    }

    /// Writes out what is queued, syncs it, and gives the files back. Journals
    /// take no more changes. A store that is dropped does the same when the last
    /// of its journals is gone, and can tell nobody what went wrong.
    ///
    /// # Errors
    /// The store failed, now or earlier.
    pub fn close(&self) -> Result<(), TableStoreError> {
        let closed = State { closed: true, ..State::default() };
        let lanes = std::mem::replace(&mut *self.state.lock(), closed).lanes;
        lanes.into_values().map(|lane| lane.close()).fold(Ok(()), Result::and)
    }

    fn lane(&self, state: &mut State, durability: Durability) -> Result<Lane, TableStoreError> {
        if let Some(lane) = state.lanes.get(&durability) {
            return Ok(lane.clone());
        }
        if state.closed {
            return Err(TableStoreError::Closed { folder: self.folder.clone() });
        }
        let volume = Volume::create(&self.folder, durability, self.ground.clone())?;
        let lane = self.start(volume, durability)?;
        state.lanes.insert(durability, lane.clone());
        Ok(lane)
    }

    fn start(&self, volume: Volume, durability: Durability) -> Result<Lane, TableStoreError> {
        Lane::start(volume, durability).map_err(io_error("start a thread for", &self.folder))
    }
}

impl State {
    fn keep(&mut self, name: &str, id: TableId, durability: Durability, lane: Lane) -> Arc<TableJournal> {
        let removed = Arc::new(AtomicBool::new(false));
        self.tables.insert(name.into(), Kept { id, durability, removed: Arc::clone(&removed) });
        Arc::new(TableJournal { table: id, lane, removed })
    }
}

impl fmt::Debug for TableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}
