//! The journal of one table: takes its changes in order, and says when they are
//! durable.

use super::committer::Committer;
use super::error::TableStoreError;
use super::format::encode_row;
use super::inventory::{TableId, Write};
use super::volume::{Durability, Volume};
use crate::table::{Change, Journal, JournalError, Ticket, WhenDurable};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How a volume is written to.
#[derive(Clone)]
pub(super) enum Lane {
    /// By the thread that makes the change: the system takes it at once.
    Direct(Arc<Volume>),
    /// By a thread that makes one commit of many.
    Grouped(Arc<Committer>),
}

/// What a [`Table`](crate::table::Table) writes its changes to.
///
/// Of a table that is kept by the process a change is kept when
/// [`append`](Journal::append) returns. Of one that is kept by the disk it is
/// when [`wait`](Journal::wait) does; many who wait are served by one sync.
pub struct TableJournal {
    pub(super) table: TableId,
    pub(super) lane: Lane,
    /// Relaxed: a change that is made while the table is removed goes with it.
    pub(super) removed: Arc<AtomicBool>,
}

impl Journal for TableJournal {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        if self.removed.load(Relaxed) {
            return Err(self.lane.volume().closed().into_journal_error());
        }
        self.lane.append(self.table, write(change)).map_err(TableStoreError::into_journal_error)
    }

    fn is_queued(&self) -> bool {
        matches!(self.lane, Lane::Grouped(_))
    }

    fn wait_for_room(&self) {
        // What takes its changes at once has no queue.
        if let Lane::Grouped(committer) = &self.lane {
            committer.wait_for_room();
        }
    }

    fn has_room(&self) -> bool {
        match &self.lane {
            Lane::Grouped(committer) => committer.has_room(),
            Lane::Direct(volume) => !volume.is_busy(),
        }
    }

    fn wait(&self, ticket: Ticket) -> Result<(), JournalError> {
        self.lane.wait(ticket).map_err(TableStoreError::into_journal_error)
    }

    /// At once, or on a thread that does nothing else, in the order of tickets. It
    /// may write and wait; others are told later then.
    fn when_durable(&self, ticket: Ticket, done: WhenDurable) {
        match &self.lane {
            Lane::Grouped(committer) => committer.when_durable(ticket, done),
            Lane::Direct(_) => done(Ok(())),
        }
    }
}

impl Lane {
    pub(super) fn start(volume: Volume, durability: Durability) -> std::io::Result<Lane> {
        Ok(match durability {
            Durability::Process => Lane::Direct(Arc::new(volume)),
            Durability::Disk => Lane::Grouped(Arc::new(Committer::start(volume)?)),
        })
    }

    pub(super) fn volume(&self) -> &Volume {
        match self {
            Lane::Direct(volume) => volume,
            Lane::Grouped(committer) => committer.volume(),
        }
    }

    pub(super) fn append(&self, table: TableId, write: Write) -> Result<Ticket, TableStoreError> {
        match self {
            Lane::Grouped(committer) => committer.append(table, write),
            Lane::Direct(volume) => {
                volume.commit(std::iter::once((table, write)))?;
                Ok(Ticket::NONE)
            }
        }
    }

    pub(super) fn wait(&self, ticket: Ticket) -> Result<(), TableStoreError> {
        match self {
            Lane::Grouped(committer) => committer.wait(ticket),
            Lane::Direct(_) => Ok(()),
        }
    }

    pub(super) fn close(&self) -> Result<(), TableStoreError> {
        match self {
            Lane::Direct(volume) => volume.close(),
            Lane::Grouped(committer) => committer.close(),
        }
    }
}

fn write(change: &Change<'_>) -> Write {
    match *change {
        Change::Put(row) => Write::Put { key: row.key.to_vec(), row: encode_row(&row) },
        Change::Remove { key } => Write::Remove { key: key.to_vec() },
        Change::Clear => Write::Clear,
        Change::Control(record) => Write::Control(record.clone()),
    }
}

impl fmt::Debug for TableJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableJournal").field("table", &self.table).finish_non_exhaustive()
    }
}
