//! Opens the database of a volume, and does not trust it with damaged files.
//!
//! fjall checks much of what it reads and takes the rest on faith: over a
//! damaged manifest it panics, and, as it holds a lock then, panics again while
//! it is dropped, which ends the process; a tree without its marker it takes for
//! one that was never finished, and deletes it. So each tree is opened alone
//! first, where a panic is no more than an error. Options stand here too.

use super::error::TableStoreError;
use super::scan::{Content, scan};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use lsm_tree::SequenceNumberCounter;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The database in the volume's folder.
const DATABASE: &str = "rows";
/// Its trees, in folders that have numbers for names.
const TREES: &str = "keyspaces";
/// What a tree has from the moment on when it is whole.
const TREE_MARKER: &str = "current";

/// The least that the database allows; what has to be read again after a crash.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Rows that are in memory a second time until they are written out. A larger
/// one would make recovery and the worst put slower, without a gain elsewhere.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Rows are read once, in order.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Opens the database in a volume's folder, or makes it.
pub(super) fn open_database(folder: &Path) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(folder.join(DATABASE))
        .max_journaling_size(JOURNAL_BYTES)
        .cache_size(CACHE_BYTES)
        .worker_threads(2)
        .open()?;
    // One for all tables: an idle one would keep the journals of the others.
    let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    let rows = database.keyspace("rows", options)?;
    Ok((database, rows))
}

/// Opens the database that is in a volume's folder, and reads all of it.
pub(super) fn read(folder: &Path) -> Result<(Database, Keyspace, Content), TableStoreError> {
    let read = || {
        check_trees(folder)?;
        let opened = open_database(folder);
        let (database, rows) = opened.map_err(|error| TableStoreError::while_reading(folder, error))?;
        let content = scan(folder, &rows)?;
        Ok((database, rows, content))
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(TableStoreError::corrupt(folder, "the database cannot make sense of its files"))
    })
}

fn check_trees(folder: &Path) -> Result<(), TableStoreError> {
    let trees = folder.join(DATABASE).join(TREES);
    let reading = |error| TableStoreError::while_reading(folder, error);
    for tree in fs::read_dir(&trees).map_err(|error| reading(error.into()))? {
        let tree = tree.map_err(|error| reading(error.into()))?.path();
        let number = tree.file_name().and_then(|name| name.to_str()).map(str::parse::<u64>);
        if !matches!(number, Some(Ok(_))) || !tree.join(TREE_MARKER).exists() {
            return Err(TableStoreError::corrupt(folder, format!("{} is no tree", tree.display())));
        }
        let (counter, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        lsm_tree::Config::new(&tree, counter, visible).open().map_err(|error| reading(error.into()))?;
    }
    Ok(())
}
