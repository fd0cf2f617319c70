//! A table from what its store has kept: the same changes, played again.
//!
//! Nothing is written here, and nobody can use a table before it is whole.

use crate::table::control::{Limits, Record, Void};
use crate::table::core::Table;
use crate::table::error::{TableError, shown};
use crate::table::journal::{Change, Journal};
use crate::table::row::{Row, RowRef};
use crate::table::view::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::fmt;
use std::sync::Arc;

/// Revisions of a life of the process begin here, for each generation before:
/// above those of rows that were removed in an earlier life, which no store
/// remembers.
const REVISION_BITS: u32 = 32;

/// Numbers that count up and are read are below these: whatever a process adds to
/// them, they do not overflow.
const GENERATION_MAX: u32 = u32::MAX / 2;
const REVISION_MAX: u64 = u64::MAX / 2;

/// A table that is being restored.
///
/// Changes are applied in the order in which they were appended. A store that
/// keeps but the last change of each key gives these, and the last record, in
/// any order.
pub struct Restore {
    table: Table,
    record: Record,
    revision: u64,
}

impl Restore {
    /// Begins with no rows. The limits do not bind what is restored.
    pub fn new(name: &str, limits: Limits) -> Restore {
        Restore { table: Table::empty(name, limits), record: Record::default(), revision: 0 }
    }

    /// Makes a change that a journal took.
    ///
    /// # Errors
    /// [`TableError::Corrupt`]: it is none that a table makes.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<(), TableError> {
        match *change {
            Change::Put(row) => {
                self.check(&row)?;
                self.record.newest = self.record.newest.max(row.schema);
                self.record.generation = self.record.generation.max(row.generation);
                self.revision = self.revision.max(row.revision);
                self.set(row.key, Some(Row::new(&row)))
            }
            Change::Remove { key } => self.set(key, None),
            Change::Clear => {
                let (name, limits) = (Arc::clone(&self.table.name), self.table.control().limits);
                self.table = Table::empty(&name, limits);
                Ok(())
            }
            Change::Control(record) => {
                self.check_record(record)?;
                let (newest, generation) = (self.record.newest, self.record.generation);
                self.record = record.clone();
                self.record.newest = newest.max(record.newest);
                self.record.generation = generation.max(record.generation);
                Ok(())
            }
        }
    }

    /// The table, which tells `journal` every change from now on.
    pub fn finish(self, journal: Option<Arc<dyn Journal>>) -> Arc<Table> {
        let begin = u64::from(self.record.generation) << REVISION_BITS;
        for mut shard in self.table.shards.write_all() {
            shard.skip_revisions(self.revision.max(begin));
        }
        Arc::new(self.table.restored(self.record, journal))
    }

    fn set(&mut self, key: &[u8], row: Option<Row>) -> Result<(), TableError> {
        let place = self.table.shards.place(key);
        let mut shard = self.table.shards.write(place);
        self.table.set(&mut shard, place, key, row, Limits::NONE)?;
        Ok(())
    }

    fn check_record(&self, record: &Record) -> Result<(), TableError> {
        let Record { base, downgrade_to, generation, newest, ref voids, .. } = *record;
        let is_sound =
            |void: &Void| void.first <= void.last && void.last <= GENERATION_MAX && is_schema(void.above);
        // One goes down to earlier schemas only; 0 is not to go down.
        let is_down = downgrade_to == 0 || downgrade_to < base;
        if generation > GENERATION_MAX || !is_schema(base) || !is_schema(newest) || !is_down {
            return Err(self.corrupt("its record has numbers that no version has".to_owned()));
        }
        if !voids.iter().all(is_sound) {
            return Err(
                self.corrupt("its record says of no versions that what they wrote is void".to_owned())
            );
        }
        Ok(())
    }

    fn corrupt(&self, what: String) -> TableError {
        TableError::Corrupt { table: Arc::clone(&self.table.name), what }
    }

    fn check(&self, row: &RowRef<'_>) -> Result<(), TableError> {
        let wrong = |what: &str| Err(self.corrupt(format!("row {} has {what}", shown(row.key))));
        let image = row.image.map_or(0, |image| image.bytes.len());
        if row.key.len() > KEY_BYTES_MAX {
            return wrong("too long a key");
        }
        if row.value.len().max(image) > VALUE_BYTES_MAX {
            return wrong("more bytes than a row may have");
        }
        if row.schema == 0 || !is_schema(row.schema) || row.generation > GENERATION_MAX {
            return wrong("a schema or a generation that no version has");
        }
        if row.revision == 0 || row.revision > REVISION_MAX {
            return wrong("a revision that is given to no row");
        }
        if row.image.is_some_and(|image| !(1..row.schema).contains(&image.schema)) {
            return wrong("an image that is not of an earlier schema");
        }
        Ok(())
    }
}

/// Whether it is the schema of a version, or 0 for none.
fn is_schema(schema: u32) -> bool {
    schema < u32::MAX
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("table", &self.table).field("record", &self.record).finish()
    }
}
