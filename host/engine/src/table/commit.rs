//! Committing several tables at once: a version is committed with all of its
//! tables, or with none.
//!
//! Each table has a store of its own, or shares one, and each can fail by
//! itself; nothing here makes one write of them.

use crate::table::control::Record;
use crate::table::core::Table;
use crate::table::error::TableError;
use std::sync::Arc;

impl Table {
    /// Commits a version with all its tables, each of which has this schema: either
    /// all of them or none.
    ///
    /// A crash in between leaves the stores of some as if they were committed.
    /// Whichever version starts then reads all rows: each table says by itself what
    /// its rows are.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: none is committed.
    pub fn commit_all(tables: &[(Arc<Table>, u32)]) -> Result<(), TableError> {
        for (table, _) in tables {
            table.is_sound()?;
        }
        let mut committed: Vec<(&Table, Record)> = Vec::with_capacity(tables.len());
        for (table, schema) in tables {
            let before = table.record();
            if let Err(error) = table.commit(*schema) {
                for (table, before) in committed {
                    take_back(table, &before);
                }
                return Err(error);
            }
            committed.push((table, before));
        }
        Ok(())
    }
}

/// The commit of another table failed, so that of this one counts no more.
fn take_back(table: &Table, before: &Record) {
    if let Err(error) = table.change_anyway(|control| control.take_commit_back(before)) {
        tracing::error!(table = table.name(), %error, "a commit was taken back in memory only");
    }
}
