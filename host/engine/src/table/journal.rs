//! What makes a table durable, seen from the table: somebody who is told every
//! change, in order.
//!
//! The store behind it is not known here; neither is what it costs to wait for
//! it. A journal that failed once is not asked again: a store with a gap would
//! be worse than one that ends.

use crate::table::control::Record;
use crate::table::row::RowRef;
use std::sync::{Arc, OnceLock};

/// A change of a table, as its journal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The row is this now, whole.
    Put(RowRef<'a>),
    /// There is no such row any more.
    Remove {
        /// Its key.
        key: &'a [u8],
    },
    /// There are no rows any more.
    Clear,
    /// Which rows count is this now.
    Control(&'a Record),
}

/// Where changes go before they are made in memory.
///
/// A change that is kept implies all that were appended before it: after a
/// crash a prefix of them is found, however long.
pub trait Journal: Send + Sync {
    /// Takes a change. Called under locks of the table, for one key at a time in
    /// the order in which it changes: must be quick, must not wait for a disk,
    /// and must not use the table.
    ///
    /// # Errors
    /// The change was not taken. The table refuses all further writes.
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError>;

    /// Whether what is appended is queued, so that not even a disk that hangs keeps it
    /// waiting.
    fn is_queued(&self) -> bool {
        false
    }

    /// Waits while so much is queued that more should not be. Called before a
    /// change of a row is made, without locks, on any thread.
    fn wait_for_room(&self) {}

    /// Whether neither that nor a change would wait for anybody now, as far as is known:
    /// for a change that can be left out. Waits for nothing itself.
    fn has_room(&self) -> bool {
        true
    }

    /// Waits until a change is as durable as this journal promises. Called
    /// without locks, on any thread.
    ///
    /// # Errors
    /// It never will be. The table refuses all further writes.
    fn wait(&self, ticket: Ticket) -> Result<(), JournalError>;

    /// Calls `done` when [`wait`](Self::wait) would return, with what it would,
    /// on any thread. Does not wait, where waiting takes time.
    fn when_durable(&self, ticket: Ticket, done: WhenDurable) {
        done(self.wait(ticket));
    }
}

/// What is told when a change is durable, or never will be. Must be quick.
pub type WhenDurable = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Why a journal failed, in its own words.
pub type JournalError = Arc<dyn std::error::Error + Send + Sync>;

/// What to wait with until a change is durable. Later changes have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nothing is to be waited for.
    pub const NONE: Ticket = Ticket(0);
}

/// A journal, and whether it has failed.
#[derive(Clone)]
pub(super) struct Ledger {
    journal: Arc<dyn Journal>,
    failed: Arc<OnceLock<JournalError>>,
}

impl Ledger {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Self {
        Ledger { journal, failed: Arc::default() }
    }

    pub(super) fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        self.sound()?;
        self.journal.append(change).map_err(|error| self.fail(error))
    }

    pub(super) fn is_queued(&self) -> bool {
        self.journal.is_queued()
    }

    pub(super) fn wait_for_room(&self) {
        self.journal.wait_for_room();
    }

    pub(super) fn has_room(&self) -> bool {
        self.journal.has_room()
    }

    pub(super) fn wait(&self, ticket: Ticket) -> Result<(), JournalError> {
        self.sound()?;
        self.journal.wait(ticket).map_err(|error| self.fail(error))
    }

    pub(super) fn when_durable(&self, ticket: Ticket, done: WhenDurable) {
        if let Err(error) = self.sound() {
            return done(Err(error));
        }
        let ledger = self.clone();
        let done = move |durable: Result<(), JournalError>| done(durable.map_err(|error| ledger.fail(error)));
        self.journal.when_durable(ticket, Box::new(done));
    }

    pub(super) fn sound(&self) -> Result<(), JournalError> {
        self.failed.get().map_or(Ok(()), |error| Err(Arc::clone(error)))
    }

    /// Takes nothing any more.
    pub(super) fn end(&self, why: JournalError) {
        self.fail(why);
    }

    /// Keeps the first failure, and gives it to whoever asks.
    fn fail(&self, error: JournalError) -> JournalError {
        Arc::clone(self.failed.get_or_init(|| error))
    }
}
