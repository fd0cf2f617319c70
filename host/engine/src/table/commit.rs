//! Committing several tables at once: a version is committed with all of its
//! tables, or with none.
//!
//! Each table has a store of its own, or shares one, and each can fail by
//! itself; nothing here makes one write of them. Nothing counts in memory before
//! all of them have taken it, and nobody changes one of the tables meanwhile.

use crate::table::control::Control;
use crate::table::core::Table;
use crate::table::error::TableError;
use parking_lot::MutexGuard;
use std::sync::Arc;

impl Table {
    /// Commits a version with all its tables, each of which has this schema: either
    /// all of them or none. May wait for their disks, but not until what it writes
    /// is durable there.
    ///
    /// A crash in between leaves the stores of some as if they were committed, and
    /// so does one that fails later of what it has taken. Whichever version starts
    /// then reads all rows: each table says by itself what its rows are.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: none is committed.
    pub fn commit_all(tables: &[(Arc<Table>, u32)]) -> Result<(), TableError> {
        Table::commit_all_if(tables, || true).map(drop)
    }

    /// The same if it still `may` be, which is asked when nothing is to be waited
    /// for any more. Returns whether they are committed.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn commit_all_if(
        tables: &[(Arc<Table>, u32)],
        may: impl FnOnce() -> bool,
    ) -> Result<bool, TableError> {
        for (table, _) in tables {
            table.is_sound()?;
        }
        let mut tables: Vec<_> = tables.iter().collect();
        // One order for all who do this with the tables of a plugin, so that none of
        // them waits for another.
        tables.sort_by_key(|(table, _)| table.name());
        let mut written = Vec::with_capacity(tables.len());
        for (table, schema) in tables {
            match Pending::write(table, *schema) {
                Ok(pending) => written.push(pending),
                Err(error) => {
                    written.into_iter().for_each(Pending::take_back);
                    return Err(error);
                }
            }
        }
        let may = may();
        written.into_iter().for_each(if may { Pending::make } else { Pending::take_back });
        Ok(may)
    }
}

/// A commit of one table that is written down, and not made yet.
struct Pending<'a> {
    table: &'a Table,
    control: Control,
    changing: MutexGuard<'a, ()>,
}

impl<'a> Pending<'a> {
    fn write(table: &'a Table, schema: u32) -> Result<Self, TableError> {
        let changing = table.changing();
        let mut control = Control::clone(&table.control());
        control.commit(schema);
        if control.record != table.control().record {
            table.write_down(&control.record)?;
        }
        Ok(Pending { table, control, changing })
    }

    fn make(self) {
        self.table.set_control(self.control, &self.changing);
    }

    fn take_back(self) {
        let before = self.table.control();
        if self.control.record != before.record
            && let Err(error) = self.table.write_down(&before.record)
        {
            tracing::error!(table = self.table.name(), %error, "the store has a commit that was not made");
        }
    }
}
