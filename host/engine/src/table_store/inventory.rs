//! What a volume holds, kept in memory: its tables, which rows each has, and the
//! head that proves it. Turns changes into the records that one commit writes.
//!
//! Touches no file. It is right only as long as each commit is made: after one
//! that failed it must not be used.

use super::format::{
    HEAD_KEY, Head, TableRecord, encode_head, encode_table, row_key, share, sum_of, table_key,
};
use super::index::Index;
use crate::table::Record;
use std::collections::BTreeMap;

/// What a table is to do to its rows, in the form in which it waits to be written.
#[derive(Debug)]
pub(super) enum Write {
    /// The row is this record now.
    Put { key: Vec<u8>, row: Vec<u8> },
    /// There is no such row.
    Remove { key: Vec<u8> },
    /// There are no rows.
    Clear,
    /// Which rows count.
    Control(Record),
    /// There is a table of this name.
    Create { name: String },
    /// There is no such table any more.
    Drop,
}

impl Write {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        64 + match self {
            Write::Put { key, row } => key.len() + row.len(),
            Write::Remove { key } => key.len(),
            Write::Clear | Write::Control(_) | Write::Create { .. } | Write::Drop => 0,
        }
    }
}

/// Which table of its volume, for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TableId(pub(super) u32);

/// What one commit writes: records by key, or none where one is to go.
#[derive(Default)]
pub(super) struct Records {
    pub(super) by_key: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What is left of tables that were cleared or removed.
    pub(super) remains: Vec<Remains>,
}

/// Rows that are of no table any more, and what was known of them: large, and to
/// be freed where nobody waits.
pub(super) struct Remains {
    pub(super) space: u64,
    pub(super) index: Index,
}

/// A volume's tables and head.
pub(super) struct Inventory {
    head: Head,
    tables: BTreeMap<TableId, Entry>,
}

/// A table.
struct Entry {
    name: String,
    table: TableRecord,
    /// The checksum of its record.
    sum: u32,
    index: Index,
    /// What its rows add to the head.
    rows: u64,
    digest: u64,
}

impl Inventory {
    /// Nothing; the next commit is the first.
    pub(super) fn new() -> Inventory {
        Inventory { head: Head::default(), tables: BTreeMap::new() }
    }

    /// What the last commit wrote; while a volume is read, rows and digest of
    /// what was read.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Takes in a table that was read.
    pub(super) fn add_table(&mut self, id: TableId, name: &str, table: TableRecord, sum: u32) {
        self.head.digest = self.head.digest.wrapping_add(share(table.space, sum));
        let entry = Entry { name: name.into(), table, sum, index: Index::new(), rows: 0, digest: 0 };
        self.tables.insert(id, entry);
    }

    /// Takes in a row that was read.
    pub(super) fn add_row(&mut self, id: TableId, key: &[u8], sum: u32) {
        let Inventory { head, tables } = self;
        if let Some(entry) = tables.get_mut(&id) {
            entry.put(head, key, sum);
        }
    }

    /// Goes on from a head that was read, and found to be that of the content.
    pub(super) fn go_on_from(&mut self, head: Head) {
        self.head = head;
    }

    /// Makes the changes, as one commit. Changes of a table that was removed
    /// are dropped with it.
    pub(super) fn commit(&mut self, writes: impl Iterator<Item = (TableId, Write)>) -> Records {
        let mut records = Records::default();
        for (id, write) in writes {
            self.apply(id, write, &mut records);
        }
        self.head.commit += 1;
        records.by_key.insert(HEAD_KEY.to_vec(), Some(encode_head(&self.head)));
        records
    }

    fn apply(&mut self, id: TableId, write: Write, records: &mut Records) {
        if let Write::Create { name } = write {
            let table = TableRecord { space: self.head.give_space(), record: Record::default() };
            let record = encode_table(&name, &table);
            self.add_table(id, &name, table, sum_of(&record));
            records.by_key.insert(table_key(&name), Some(record));
            return;
        }
        let Inventory { head, tables } = self;
        let Some(entry) = tables.get_mut(&id) else { return };
        match write {
            Write::Put { key, row } => {
                entry.put(head, &key, sum_of(&row));
                records.by_key.insert(row_key(entry.table.space, &key), Some(row));
            }
            Write::Remove { key } => {
                if entry.remove(head, &key) {
                    records.by_key.insert(row_key(entry.table.space, &key), None);
                }
            }
            Write::Control(record) => {
                let space = entry.table.space;
                entry.set(head, space, record, records);
            }
            Write::Clear => {
                records.remains.push(entry.forget_rows(head));
                let (space, record) = (head.give_space(), entry.table.record.clone());
                entry.set(head, space, record, records);
            }
            Write::Drop => {
                records.remains.push(entry.forget_rows(head));
                head.digest = head.digest.wrapping_sub(share(entry.table.space, entry.sum));
                records.by_key.insert(table_key(&entry.name), None);
                tables.remove(&id);
            }
            Write::Create { .. } => {}
        }
    }
}

impl Entry {
    fn put(&mut self, head: &mut Head, key: &[u8], sum: u32) {
        let before = self.index.put(key, sum);
        let added = u64::from(before.is_none());
        let before = before.map_or(0, |before| share(self.table.space, before));
        let change = share(self.table.space, sum).wrapping_sub(before);
        for (rows, digest) in [(&mut head.rows, &mut head.digest), (&mut self.rows, &mut self.digest)] {
            *rows += added;
            *digest = digest.wrapping_add(change);
        }
    }

    /// Whether there was such a row.
    fn remove(&mut self, head: &mut Head, key: &[u8]) -> bool {
        let Some(sum) = self.index.remove(key) else { return false };
        let gone = share(self.table.space, sum);
        for (rows, digest) in [(&mut head.rows, &mut head.digest), (&mut self.rows, &mut self.digest)] {
            *rows -= 1;
            *digest = digest.wrapping_sub(gone);
        }
        true
    }

    fn forget_rows(&mut self, head: &mut Head) -> Remains {
        head.rows -= std::mem::take(&mut self.rows);
        head.digest = head.digest.wrapping_sub(std::mem::take(&mut self.digest));
        Remains { space: self.table.space, index: std::mem::replace(&mut self.index, Index::new()) }
    }

    fn set(&mut self, head: &mut Head, space: u64, record: Record, records: &mut Records) {
        let before = share(self.table.space, self.sum);
        self.table = TableRecord { space, record };
        let record = encode_table(&self.name, &self.table);
        self.sum = sum_of(&record);
        head.digest = head.digest.wrapping_sub(before).wrapping_add(share(space, self.sum));
        records.by_key.insert(table_key(&self.name), Some(record));
    }
}
