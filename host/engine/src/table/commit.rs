//! Committing several tables at once: a version is committed with all of its
//! tables, or with none.
//!
//! Each table has a store of its own, or shares one, and each can fail by
//! itself; nothing here makes one write of them. Nothing counts in memory before
//! all of them have taken it, and nobody changes one of the tables meanwhile.
//!
//! A commit may void what a version at work writes. Until such a one is decided, and
//! taken back where it is not made, the stores of those tables are told no rows: what
//! is written after a commit that came to nothing stands behind it in every store, and
//! so is not void for whoever finds the commit when the process was killed.

use crate::table::control::Control;
use crate::table::core::Table;
use crate::table::error::TableError;
use parking_lot::{MutexGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often is looked whether a commit that waits for a row to be written is given up.
const LOOK_AFTER: Duration = Duration::from_millis(1);

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
    /// where the commit is on the disk, for whichever version starts. Where such a
    /// commit cannot be taken back, no table takes anything any more in which a version
    /// at work would write in vain.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: none is committed.
    pub fn commit_all(tables: &[(Arc<Table>, u32)]) -> Result<(), TableError> {
        let mut outcome = Ok(false);
        Table::commit_all_unless(tables, &Decision::default(), |told| outcome = told);
        outcome.map(drop)
    }

    /// The same unless it is given up before all of it is written down that a disk may
    /// keep waiting. What is given up writes nothing any more but what takes it back, and
    /// that before anybody else changes these tables.
    ///
    /// Tells once whether they are committed, as soon as that is clear: taking back what
    /// failed may wait for a disk, too.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn commit_all_unless(
        tables: &[(Arc<Table>, u32)],
        decision: &Decision,
        tell: impl FnOnce(Result<bool, TableError>),
    ) {
        let mut held = match Held::all(tables, decision) {
            Ok(Some(held)) => held,
            Ok(None) => return tell(Ok(false)),
            Err(error) => return tell(Err(error)),
        };
        let is_queued = |held: &Held<'_>| held.table.is_queued();
        let mut outcome =
            Held::write(held.iter_mut().filter(|held| !is_queued(held)), || decision.is_taken());
        let is_made = outcome.is_ok() && decision.take();
        if is_made {
            // Only now: it is waited for no longer than it takes to queue it.
            outcome = Held::write(held.iter_mut().filter(|held| is_queued(held)), || false);
        }
        if is_made && outcome.is_ok() {
            held.into_iter().for_each(Held::make);
            return tell(Ok(true));
        }
        // What could not be queued is nowhere; what a disk has not taken may be on it.
        let unclear = outcome.as_ref().err().filter(|_| !is_made).cloned();
        tell(outcome.map(|()| false));
        Held::take_back(&held, unclear);
    }
}

/// A table that nobody else changes.
struct Held<'a> {
    table: &'a Table,
    /// What it will be.
    control: Control,
    is_written: bool,
    changing: MutexGuard<'a, ()>,
    /// Where a version at work would write in vain by it: its store is told no rows.
    rows: Option<RwLockWriteGuard<'a, ()>>,
}

impl<'a> Held<'a> {
    /// All of them; none if it was given up meanwhile.
    fn all(tables: &'a [(Arc<Table>, u32)], decision: &Decision) -> Result<Option<Vec<Self>>, TableError> {
        for (table, _) in tables {
            table.is_sound()?;
        }
        let mut tables: Vec<_> = tables.iter().collect();
        // One order for all who do this with the tables of a plugin, so that none of
        // them waits for another.
        tables.sort_by_key(|(table, _)| table.name());
        let mut all = Vec::with_capacity(tables.len());
        for (table, schema) in tables {
            let changing = table.changing();
            let mut control = Control::clone(&table.control());
            control.commit(*schema);
            let mut rows = None;
            // Whoever writes a row may wait for a disk.
            let is_due = control.voids_writers(&table.control());
            while is_due && rows.is_none() && !decision.is_taken() {
                rows = table.keep_rows_back(LOOK_AFTER);
            }
            // Under the lock: whoever gave it up may have had that meanwhile.
            if decision.is_taken() {
                return Ok(None);
            }
            all.push(Held { table, control, is_written: false, changing, rows });
        }
        Ok(Some(all))
    }

    /// Writes them down until it is given up.
    fn write<'b>(
        all: impl Iterator<Item = &'b mut Self>,
        is_given_up: impl Fn() -> bool,
    ) -> Result<(), TableError>
    where
        'a: 'b,
    {
        for held in all {
            if is_given_up() {
                break;
            }
            if held.control.record != held.table.control().record {
                held.table.write_down(&held.control.record)?;
                held.is_written = true;
            }
        }
        Ok(())
    }

    fn make(self) {
        self.table.set_control(self.control, &self.changing);
    }

    /// Has the stores forget it again. Where one may not, it may be taken for made after
    /// a crash: what would be void then is not written any more.
    fn take_back(all: &[Self], unclear: Option<TableError>) {
        let taken_back = all.iter().filter(|held| held.is_written).map(|held| {
            let table = held.table;
            let back = table.write_down(&table.control().record).and_then(|()| table.wait_for_record());
            back.inspect_err(|error| {
                tracing::error!(table = table.name(), %error, "the store has a commit that was not made");
            })
        });
        let taken_back = taken_back.fold(Ok(()), Result::and);
        let Some(why) = taken_back.err().or(unclear) else { return };
        for held in all.iter().filter(|held| held.rows.is_some()) {
            held.table.end_store(&why);
        }
    }
}
