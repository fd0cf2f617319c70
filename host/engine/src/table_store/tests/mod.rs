//! A store in a folder of its own, and what the tests write to it and find in it.

mod damage;
mod failing;
mod grouping;
mod keeping;
mod killing;
mod records;
mod replaced;

use super::disk::{Disk, RealDisk};
use super::seal::current_boot;
use super::volume::Ground;
use super::witness::Witnesses;
use super::{Durability, OpenedStore, TableJournal, TableStore, TableStoreError, TableStoreOptions};
use crate::table::{Change, Image, Journal, Record, RowRef, Table, View};
use replug_abi::{SCAN_END, ScannedRow};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Above any schema that the tests write.
const NEWEST: u32 = 9;

/// A folder for a store, removed in the end.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("tables/notes")
    }

    fn open(&self) -> OpenedStore {
        self.try_open().expect("a sound store")
    }

    fn try_open(&self) -> Result<OpenedStore, TableStoreError> {
        TableStore::open(self.folder(), TableStoreOptions::default())
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> OpenedStore {
        let ground = Ground { disk, boot: current_boot(), witnesses: Witnesses::default() };
        TableStore::open_on(ground, &self.folder(), false).expect("a sound store")
    }

    /// After a start of the machine.
    fn open_after_boot(&self, accept_loss: bool) -> Result<OpenedStore, TableStoreError> {
        let boot = current_boot() ^ 1;
        let ground = Ground { disk: Arc::new(RealDisk), boot, witnesses: Witnesses::default() };
        TableStore::open_on(ground, &self.folder(), accept_loss)
    }
}

fn row<'a>(key: &'a [u8], value: &'a [u8], revision: u64) -> RowRef<'a> {
    RowRef { key, value, schema: 1, generation: 1, revision, image: None }
}

/// Makes a change, and waits for it.
fn make(journal: &TableJournal, change: &Change<'_>) {
    let ticket = journal.append(change).expect("a sound store");
    journal.wait(ticket).expect("a sound store");
}

fn put(journal: &TableJournal, key: &[u8], value: &[u8], revision: u64) {
    make(journal, &Change::Put(row(key, value, revision)));
}

/// The rows of a table: revision, schema and value by key.
type Rows = BTreeMap<Vec<u8>, (u64, u32, Vec<u8>)>;

/// The rows as a version of this schema reads them.
fn rows_for(schema: u32, table: &Arc<Table>) -> Rows {
    let (view, mut rows, mut cursor) = (View::new(table, schema), Rows::new(), 0);
    while cursor != SCAN_END {
        let mut body = Vec::new();
        cursor = view.scan(cursor, &mut body);
        let mut rest = &body[..];
        while let Some((row, behind)) = ScannedRow::read(rest) {
            rows.insert(row.key.to_vec(), (row.revision, row.schema, row.value.to_vec()));
            rest = behind;
        }
    }
    rows
}

/// All tables by name, with what a store keeps of each.
fn tables(opened: &OpenedStore) -> BTreeMap<String, (Rows, Record)> {
    let table = |table: &Arc<Table>| (rows_for(NEWEST, table), table.record());
    opened.tables.iter().map(|kept| (kept.table.name().to_owned(), table(&kept.table))).collect()
}

/// The one table of a store, and its journal.
fn only(opened: &OpenedStore) -> (&Arc<Table>, &Arc<TableJournal>) {
    let [kept] = &opened.tables[..] else { panic!("{} tables", opened.tables.len()) };
    (&kept.table, &kept.journal)
}

/// Both promises, each with a name for its table.
const BOTH: [(Durability, &str); 2] = [(Durability::Process, "quick"), (Durability::Disk, "safe")];

/// A copy of a folder as a crash would leave it: all that the system was given.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            // Journals are long files that are mostly holes.
            let bytes = fs::read(&path).expect("a file");
            fs::write(&target, &bytes[..data_bytes(&bytes)]).expect("room");
            let file = fs::OpenOptions::new().write(true).open(&target).expect("a file");
            file.set_len(bytes.len() as u64).expect("room");
        }
    }
}

/// How many bytes there are before the zeros at the end.
fn data_bytes(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
