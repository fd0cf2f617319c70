//! Reads everything that a volume holds, once: proves it and restores the tables
//! in the same pass.
//!
//! What was restored is given away only when the last record was read and the
//! whole is what the head says. Nothing is written or mended here.

use super::error::TableStoreError;
use super::format::{Head, Key, TableRecord, decode_head, decode_row, decode_table, sum_of};
use super::inventory::{Inventory, TableId};
use crate::table::{Change, Limits, Restore};
use fjall::Keyspace;
use std::collections::BTreeSet;
use std::path::Path;

/// A volume's content, whole and as it was written.
pub(super) struct Content {
    pub(super) inventory: Inventory,
    pub(super) tables: Vec<Found>,
    /// Spaces of no table, with rows that are yet to be removed.
    pub(super) dead_spaces: BTreeSet<u64>,
}

/// A table with all its rows.
pub(super) struct Found {
    pub(super) id: TableId,
    pub(super) name: String,
    pub(super) restore: Restore,
    space: u64,
}

/// Reads the database that lies in `folder`.
pub(super) fn scan(folder: &Path, rows: &Keyspace) -> Result<Content, TableStoreError> {
    let mut scan = Scan {
        folder,
        head: None,
        content: Content { inventory: Inventory::new(), tables: Vec::new(), dead_spaces: BTreeSet::new() },
        current: 0,
    };
    for entry in rows.iter() {
        let (key, record) =
            entry.into_inner().map_err(|error| TableStoreError::while_reading(folder, error))?;
        // By the order of keys: the head, then the tables, then the rows.
        match Key::parse(&key) {
            Some(Key::Head) => scan.head = decode_head(&record),
            Some(Key::Table { name }) => scan.table(name, &record)?,
            Some(Key::Row { space, key }) => scan.row(space, key, &record)?,
            None => return Err(scan.corrupt("it has a key that is of no kind")),
        }
    }
    scan.finish()
}

struct Scan<'a> {
    folder: &'a Path,
    head: Option<Head>,
    content: Content,
    /// The table that the last row was of: the rows of one stand together.
    current: usize,
}

impl Scan<'_> {
    fn table(&mut self, name: &str, record: &[u8]) -> Result<(), TableStoreError> {
        let Some(table) = decode_table(name, record) else {
            return Err(self.corrupt(format!("the record of table {name:?} fails its checksum")));
        };
        let id = TableId(self.content.tables.len() as u32);
        let mut restore = Restore::new(name, Limits::NONE);
        self.restored(restore.apply(&Change::Control(&table.record)))?;
        let TableRecord { space, .. } = table;
        self.content.inventory.add_table(id, name, table, sum_of(record));
        self.content.tables.push(Found { id, name: name.into(), restore, space });
        Ok(())
    }

    fn row(&mut self, space: u64, key: &[u8], record: &[u8]) -> Result<(), TableStoreError> {
        let tables = &mut self.content.tables;
        if tables.get(self.current).is_none_or(|table| table.space != space) {
            match tables.iter().position(|table| table.space == space) {
                Some(at) => self.current = at,
                None => {
                    self.content.dead_spaces.insert(space);
                    return Ok(());
                }
            }
        }
        let table = &mut tables[self.current];
        let Some(row) = decode_row(key, record) else {
            let what = format!("a row of table {:?} fails its checksum", table.name);
            return Err(self.corrupt(what));
        };
        let applied = table.restore.apply(&Change::Put(row));
        self.content.inventory.add_row(table.id, key, sum_of(record));
        self.restored(applied)
    }

    fn finish(self) -> Result<Content, TableStoreError> {
        let Some(head) = self.head else {
            return Err(self.corrupt("its head is missing or fails its checksum"));
        };
        let found = self.content.inventory.head();
        if found.rows != head.rows {
            let Head { rows, .. } = found;
            return Err(self.corrupt(format!("it has {rows} rows, and {} were written", head.rows)));
        }
        if found.digest != head.digest {
            return Err(self.corrupt("some rows or tables are older than the last that were written"));
        }
        let mut content = self.content;
        content.inventory.go_on_from(head);
        Ok(content)
    }

    fn restored(&self, result: Result<(), crate::table::TableError>) -> Result<(), TableStoreError> {
        result.map_err(|error| self.corrupt(error.to_string()))
    }

    fn corrupt(&self, what: impl Into<String>) -> TableStoreError {
        TableStoreError::corrupt(self.folder, what)
    }
}
