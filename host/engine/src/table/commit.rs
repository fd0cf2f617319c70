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
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a commit that somebody waits for is made or given up: whichever of the
/// two threads is first decides.
///
/// Relaxed: one that gives it up changes these tables only afterwards, under the
/// lock under which the other one looks here before it writes.
#[derive(Debug, Default)]
pub(crate) struct Decision(AtomicBool);

impl Decision {
    /// Decides, and returns whether nobody had.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Relaxed)
    }

    fn is_taken(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Table {
    /// Commits a version with all its tables, each of which has this schema: either
    /// all of them or none. May wait for their disks, but not until what it writes
    /// is durable there.
    ///
    /// A crash in between leaves the stores of some as if they were committed, and
    /// so does one that fails later of what it has taken. Each table says by itself
    /// what its rows are, and so a version of a later schema reads all of them. Down
    /// from one that leaves no images it is another matter: what that wrote is void
    /// where the commit is on the disk, for whichever version starts.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: none is committed.
    pub fn commit_all(tables: &[(Arc<Table>, u32)]) -> Result<(), TableError> {
        Table::commit_all_unless(tables, &Decision::default()).map(drop)
    }

    /// The same unless it is given up before all of it is written down that a disk may
    /// keep waiting. What is given up writes nothing any more but what takes it back, and
    /// that before anybody else changes these tables. Returns whether they are committed.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn commit_all_unless(
        tables: &[(Arc<Table>, u32)],
        decision: &Decision,
    ) -> Result<bool, TableError> {
        for (table, _) in tables {
            table.is_sound()?;
        }
        let mut tables: Vec<_> = tables.iter().collect();
        // One order for all who do this with the tables of a plugin, so that none of
        // them waits for another.
        tables.sort_by_key(|(table, _)| table.name());
        let (queued, direct): (Vec<_>, Vec<_>) = tables.into_iter().partition(|(table, _)| table.is_queued());
        let mut written = Vec::with_capacity(queued.len() + direct.len());
        let is_given_up = || decision.is_taken();
        let mut outcome = write_all(&direct, is_given_up, &mut written);
        let is_made = outcome.is_ok() && decision.take();
        if is_made {
            // Only now: what is queued may be on the disk before it is taken back, and
            // with it what the version that serves on has written behind it. It is waited
            // for no longer than it takes to queue it.
            outcome = write_all(&queued, || false, &mut written);
        }
        let is_whole = is_made && outcome.is_ok();
        written.into_iter().for_each(if is_whole { Pending::make } else { Pending::take_back });
        outcome.map(|()| is_made)
    }
}

/// Writes tables down until it is given up.
fn write_all<'a>(
    tables: &[&'a (Arc<Table>, u32)],
    is_given_up: impl Fn() -> bool,
    written: &mut Vec<Pending<'a>>,
) -> Result<(), TableError> {
    for (table, schema) in tables {
        let Some(pending) = Pending::write(table, *schema, &is_given_up)? else { break };
        written.push(pending);
    }
    Ok(())
}

/// A commit of one table that is written down, and not made yet.
struct Pending<'a> {
    table: &'a Table,
    control: Control,
    changing: MutexGuard<'a, ()>,
}

impl<'a> Pending<'a> {
    /// None if it was given up.
    fn write(
        table: &'a Table,
        schema: u32,
        is_given_up: impl Fn() -> bool,
    ) -> Result<Option<Self>, TableError> {
        let changing = table.changing();
        // Under the lock: whoever gave it up may have had that meanwhile, and would not
        // find what is written now.
        if is_given_up() {
            return Ok(None);
        }
        let mut control = Control::clone(&table.control());
        control.commit(schema);
        if control.record != table.control().record {
            table.write_down(&control.record)?;
        }
        Ok(Some(Pending { table, control, changing }))
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
