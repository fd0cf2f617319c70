//! The table itself: its rows, its control, its counters and its journal, and
//! the few ways in which any of them changes.
//!
//! The rule that makes rollback, commit and sweeps exact: the control is read
//! *under the lock of the row's shard*, and what is decided by it is done before
//! that lock is given back. Whoever has changed the control and then goes
//! through the shards meets each writer either before it, and then sees its
//! row, or after it, and then the writer has seen the new control. A reader's lock
//! is not enough for that: it stands beside that of a [swap](Table::swap) which has
//! decided and not stored yet.
//!
//! long: the few ways in which a table changes stand here once.

use crate::table::block;
use crate::table::control::{Control, Limits, Record};
use crate::table::error::TableError;
use crate::table::journal::{Change, Journal, JournalError, Ledger, Ticket};
use crate::table::row::Row;
use crate::table::shards::{Shard, Shards};
use crate::table::usage::{Full, Usage};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
use replug_abi::TableSize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Named rows that outlive the versions of the plugin that owns them.
///
/// Versions read and write through a [`View`](super::View) of their own. What is
/// here is the host's side: which version is committed, which writes count.
/// All of it may be used on any thread. Only [`Table::wait`] waits for a journal;
/// writes of rows do while that has far too much to do, and while a commit that would
/// have them be in vain is open.
pub struct Table {
    pub(super) name: Arc<str>,
    pub(super) shards: Shards,
    usage: Usage,
    control: ArcSwap<Control>,
    /// Held to change the control, so that no change is lost.
    changing: Mutex<()>,
    /// Held while rows are changed that the journal is told, and against that while it is
    /// open whether what it was told of the control is taken back.
    telling: RwLock<()>,
    ledger: OnceLock<Ledger>,
    /// The ticket of the record that the journal was told last, by whoever held that.
    told: AtomicU64,
}

impl Table {
    /// A table without rows, kept in memory until [`attach`](Self::attach).
    pub fn new(name: &str, limits: Limits) -> Arc<Table> {
        Arc::new(Table::empty(name, limits))
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How large the table is. Rows that a rollback has left without a value
    /// count until a sweep has removed them.
    pub fn size(&self) -> TableSize {
        self.usage.size()
    }

    /// The schemas that rows have, in order, without looking at the rows. While
    /// some of them do not count, images do in their place, and so their schemas
    /// are among these. Exact when nobody writes.
    pub fn schemas(&self) -> Vec<u32> {
        let has_voids = !self.control.load().record.voids.is_empty();
        self.usage.schemas(has_voids)
    }

    /// Which rows count; what a journal was told last.
    pub fn record(&self) -> Record {
        self.control.load().record.clone()
    }

    /// Sets other limits, for all versions. What is there stays.
    pub fn set_limits(&self, limits: Limits) {
        // A change of limits leaves the record as it is, and cannot fail.
        _ = self.change(|control| control.limits = limits);
    }

    /// Commits a version: from now on its schema is the one that can be gone
    /// back to, and whatever was written in a later one counts as its image.
    /// Versions of later schemas that are still at work are on their way out.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: it is not committed.
    pub fn commit(&self, schema: u32) -> Result<(), TableError> {
        self.change(|control| control.commit(schema))
    }

    /// Takes back what the version of this generation wrote, and what it still
    /// writes in its last calls, in schemas above `to`: it counts as its image.
    /// `to` is the schema of the version that is gone back to, 0 if there is none,
    /// and then nothing counts of what it wrote; which schema is committed stays as
    /// it is. Costs the same however many rows there are.
    ///
    /// What it removed is gone: only values have something to fall back on.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: it is not taken back. A version of schema
    /// `to` reads the images all the same.
    pub fn roll_back(&self, generation: u32, to: u32) -> Result<(), TableError> {
        self.change(|control| control.roll_back(generation, to))
    }

    /// Has the versions at work leave images in this schema from now on, which is
    /// earlier than the committed one. When a sweep by the version that serves has
    /// made those of all other rows, a version of that schema can be published,
    /// and committed. Until then the committed schema is what it was: whoever
    /// finds the table after a crash finds rows of a later schema, and not that
    /// they do not count.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: nothing has changed.
    pub fn prepare_downgrade(&self, to: u32) -> Result<(), TableError> {
        self.change(|control| control.record.downgrade_to = if to < control.record.base { to } else { 0 })
    }

    /// Takes the intention back: images are left in the committed schema again.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: they are left in the earlier one still.
    pub fn cancel_downgrade(&self) -> Result<(), TableError> {
        self.change(|control| control.record.downgrade_to = 0)
    }

    /// How many rows would be lost, or taken back to an older value, by going back
    /// to the committed schema, or to the one that a downgrade is prepared to:
    /// their values are later and have no image in it. Looks at each row if any
    /// can be.
    pub fn losses(&self) -> u64 {
        let record = self.record();
        if record.base == 0 || record.newest <= record.floor() { 0 } else { self.census().losses }
    }

    /// Counts the rows by their state, shard by shard: exact when nobody writes.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for shard in self.shards.iter() {
            let control = self.control.load();
            for row in shard.rows() {
                let counts = control.effective(row.parts());
                census.unswept += u64::from(counts != Some(row.parts()));
                let Some(row) = counts else { continue };
                *census.rows.entry(row.schema).or_default() += 1;
                census.images += u64::from(row.image.is_some());
                census.losses += u64::from(control.would_lose(&row));
            }
        }
        census
    }

    /// Makes the table durable: every change from now on goes to the journal
    /// first. Rows that are there already follow with the next pass of a
    /// [`Sweep`](super::Sweep), which need not be one that converts; until that is
    /// through the record is [partial](Record::partial).
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: the journal does not take the record, or
    /// the table had a journal before. The table is as it was.
    pub fn attach(&self, journal: Arc<dyn Journal>) -> Result<(), TableError> {
        let _changing = self.changing.lock();
        if self.ledger.get().is_some() {
            let error: Box<dyn std::error::Error + Send + Sync> = "the table has a journal already".into();
            return Err(self.store_failed(error.into()));
        }
        // Nobody writes past the journal while its record is made.
        let _shards = self.shards.write_all();
        let mut control = Control::clone(&self.control.load());
        control.record.partial = self.size().rows > 0;
        // A journal that fails at once must not take the table with it.
        let ledger = Ledger::new(journal);
        ledger.append(&Change::Control(&control.record)).map_err(|error| self.store_failed(error))?;
        self.ledger.get_or_init(|| ledger);
        self.control.store(Arc::new(control));
        Ok(())
    }

    /// Waits until a write is as durable as its table promises.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]: it never will be.
    pub fn wait(&self, ticket: Ticket) -> Result<(), TableError> {
        match self.ledger.get() {
            Some(ledger) if ticket != Ticket::NONE => {
                ledger.wait(ticket).map_err(|error| self.store_failed(error))
            }
            _ => Ok(()),
        }
    }

    /// Calls `done` when [`wait`](Self::wait) would return, with what it would,
    /// on any thread.
    pub fn when_durable(&self, ticket: Ticket, done: impl FnOnce(Result<(), TableError>) + Send + 'static) {
        match self.ledger.get() {
            Some(ledger) if ticket != Ticket::NONE => {
                let table = Arc::clone(&self.name);
                let failed = move |source| TableError::StoreFailed { table, source };
                ledger.when_durable(ticket, Box::new(move |durable| done(durable.map_err(failed))));
            }
            _ => done(Ok(())),
        }
    }
}

/// A table's rows by their state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Rows that count, by schema.
    pub rows: BTreeMap<u32, u64>,
    /// Rows with an image beside their value.
    pub images: u64,
    /// Rows that going back would lose, as [`Table::losses`] has it.
    pub losses: u64,
    /// Rows with a value that does not count, left for a sweep.
    pub unswept: u64,
}

/// What became of an attempt to put one row in the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    /// And this tells when it is durable.
    Done(Ticket),
    /// The row was written meanwhile.
    RowMoved,
    /// The control was changed meanwhile.
    ControlMoved,
}

/// A shard that is locked for changes, of which the journal may be told.
pub(super) type Locked<'a> = (Option<RwLockReadGuard<'a, ()>>, RwLockWriteGuard<'a, Shard>);

impl Table {
    pub(super) fn empty(name: &str, limits: Limits) -> Table {
        Table {
            name: name.into(),
            shards: Shards::new(),
            usage: Usage::default(),
            control: ArcSwap::from_pointee(Control::new(Record::default(), limits)),
            changing: Mutex::new(()),
            telling: RwLock::new(()),
            ledger: OnceLock::new(),
            told: AtomicU64::new(Ticket::NONE.0),
        }
    }

    /// The table as it was restored, before anybody else has it.
    pub(super) fn restored(mut self, record: Record, journal: Option<Arc<dyn Journal>>) -> Table {
        let limits = self.control.load().limits;
        self.control = ArcSwap::from_pointee(Control::new(record, limits));
        self.ledger = journal.map(Ledger::new).map_or_else(OnceLock::new, OnceLock::from);
        self
    }

    /// To be called under the lock of the shard that it is for.
    pub(super) fn control(&self) -> arc_swap::Guard<Arc<Control>> {
        self.control.load()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Control) -> T) -> Result<T, TableError> {
        let _changing = self.changing.lock();
        let mut control = Control::clone(&self.control.load());
        let result = change(&mut control);
        self.replace_control(control).map(|()| result)
    }

    /// Changes the control, unless it is another one by now.
    pub(super) fn change_if(
        &self,
        known: &Arc<Control>,
        change: impl FnOnce(&mut Control),
    ) -> Result<bool, TableError> {
        let _changing = self.changing.lock();
        if !Arc::ptr_eq(known, &self.control.load()) {
            return Ok(false);
        }
        let mut control = Control::clone(known);
        change(&mut control);
        self.replace_control(control).map(|()| true)
    }

    /// Whether the store takes changes, as far as is known. Waits for nothing.
    pub(crate) fn is_sound(&self) -> Result<(), TableError> {
        self.ledger.get().map_or(Ok(()), Ledger::sound).map_err(|error| self.store_failed(error))
    }

    /// Whether its store takes changes without waiting for a disk.
    pub(super) fn is_queued(&self) -> bool {
        self.ledger.get().is_some_and(Ledger::is_queued)
    }

    /// Until this is dropped nobody else changes the control.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// Until this is dropped the journal is told no rows: who writes one waits. None
    /// while one is being told for so long.
    pub(super) fn keep_rows_back(&self, patience: Duration) -> Option<RwLockWriteGuard<'_, ()>> {
        self.telling.try_write_for(patience)
    }

    /// Has the store take nothing any more, as if it had failed.
    pub(super) fn end_store(&self, why: &TableError) {
        if let Some(ledger) = self.ledger.get() {
            ledger.end(Arc::new(why.clone()));
        }
    }

    /// Tells the journal which rows count, or will.
    pub(super) fn write_down(&self, record: &Record) -> Result<(), TableError> {
        let ticket = self.append(&Change::Control(record))?;
        // Relaxed: it stands for nothing but itself.
        self.told.store(ticket.0, Relaxed);
        Ok(())
    }

    /// Waits until the record is as durable as the table promises.
    ///
    /// # Errors
    /// It never will be, or the store has failed since.
    pub(crate) fn wait_for_record(&self) -> Result<(), TableError> {
        self.wait(Ticket(self.told.load(Relaxed)))?;
        self.is_sound()
    }

    /// Makes a change that is written down.
    pub(super) fn set_control(&self, control: Control, _changing: &MutexGuard<'_, ()>) {
        self.control.store(Arc::new(control));
    }

    fn replace_control(&self, control: Control) -> Result<(), TableError> {
        if control.record != self.control.load().record {
            self.write_down(&control.record)?;
        }
        self.control.store(Arc::new(control));
        Ok(())
    }

    /// Puts or removes one row of a locked shard: counters, journal, memory. On
    /// an error all are as before. The old row is returned, so that it is freed
    /// when the lock is not held any more.
    pub(super) fn set(
        &self,
        shard: &mut Shard,
        place: u64,
        key: &[u8],
        new: Option<Row>,
        limits: Limits,
    ) -> Result<(Ticket, Option<Row>), TableError> {
        let ticket = self.book(key, shard.find(place, key), new.as_ref(), limits)?;
        let old = match new {
            Some(row) => shard.put(place, row),
            None => shard.take(place, key),
        };
        Ok((ticket, old))
    }

    /// Counters and journal of a change of one row. On an error both are as before.
    fn book(
        &self,
        key: &[u8],
        old: Option<&Row>,
        new: Option<&Row>,
        limits: Limits,
    ) -> Result<Ticket, TableError> {
        self.usage.exchange(old, new, limits).map_err(|full| self.full(full, limits))?;
        let change = new.map_or(Change::Remove { key }, |row| Change::Put(row.parts()));
        self.append(&change).inspect_err(|_| {
            // Back to what it was, which has room by definition.
            _ = self.usage.exchange(new, old, Limits::NONE);
        })
    }

    /// Puts `new` in the place of `old`, or removes that, if it stands there yet
    /// and the control is the one by which that was decided. Not bound by the
    /// limits: what the host does to rows must not fail for them.
    ///
    /// A sweep does this a million times, and loses its core now and then. So readers are
    /// kept out while a pointer is stored, and those before are waited for, and not while
    /// it is found out what is to be stored and where.
    pub(super) fn swap(&self, known: &Arc<Control>, old: &Row, new: Option<Row>) -> Result<Swap, TableError> {
        let place = self.shards.place(old.key());
        let (_telling, shard) = self.write_to(|shards| shards.hold(place));
        if !Arc::ptr_eq(known, &self.control()) {
            return Ok(Swap::ControlMoved);
        }
        let Some(slot) = shard.slot_of(place, old) else { return Ok(Swap::RowMoved) };
        let ticket = self.book(old.key(), Some(old), new.as_ref(), Limits::NONE)?;
        let mut shard = RwLockUpgradableReadGuard::upgrade(shard);
        let replaced = match new {
            Some(row) => shard.replace(slot, row),
            None => shard.take(place, old.key()),
        };
        drop(shard);
        // Freed when nobody waits for that.
        drop(replaced);
        Ok(Swap::Done(ticket))
    }

    /// Removes all rows there are, at one moment. Says whether there were any.
    pub(super) fn clear(&self, generation: u32) -> Result<(Ticket, bool), TableError> {
        let (telling, mut shards) = self.write_to(Shards::write_all);
        if !self.control().is_writer(generation) {
            return Err(self.not_active());
        }
        let existed = self.size().rows > 0;
        let ticket = self.append(&Change::Clear)?;
        self.usage.reset();
        let rows: Vec<_> = shards.iter_mut().map(|shard| shard.take_all()).collect();
        // Freeing the rows takes its time; nobody has to wait for it.
        drop((shards, telling));
        drop(rows);
        if existed {
            block::give_back();
        }
        Ok((ticket, existed))
    }

    pub(super) fn not_active(&self) -> TableError {
        TableError::NotActive { table: Arc::clone(&self.name) }
    }

    /// Locks shards for changes of rows, which the journal may be told as long as both
    /// guards are there. To be called without locks: whoever writes faster than the
    /// journal waits here, and whoever is [kept back](Self::keep_rows_back), and no
    /// readers with him.
    pub(super) fn write_to<'a, T>(
        &'a self,
        lock: impl Fn(&'a Shards) -> T,
    ) -> (Option<RwLockReadGuard<'a, ()>>, T) {
        loop {
            let telling = self.ledger.get().map(|ledger| {
                ledger.wait_for_room();
                self.telling.read()
            });
            let locked = lock(&self.shards);
            // A journal is attached under the locks of all shards.
            if telling.is_some() || self.ledger.get().is_none() {
                return (telling, locked);
            }
        }
    }

    /// The same for one shard, if nobody else is at work in it or in the journal.
    pub(super) fn try_write_to(&self, place: u64) -> Option<Locked<'_>> {
        let telling = match self.ledger.get() {
            Some(ledger) if !ledger.has_room() => return None,
            Some(_) => Some(self.telling.try_read()?),
            None => None,
        };
        let shard = self.shards.try_write(place)?;
        (telling.is_some() || self.ledger.get().is_none()).then_some((telling, shard))
    }

    fn append(&self, change: &Change<'_>) -> Result<Ticket, TableError> {
        let Some(ledger) = self.ledger.get() else { return Ok(Ticket::NONE) };
        ledger.append(change).map_err(|error| self.store_failed(error))
    }

    fn store_failed(&self, source: JournalError) -> TableError {
        TableError::StoreFailed { table: Arc::clone(&self.name), source }
    }

    fn full(&self, full: Full, limits: Limits) -> TableError {
        let table = Arc::clone(&self.name);
        match full {
            Full::Rows => TableError::RowsMax { table, max: limits.rows_max },
            Full::Bytes => TableError::BytesMax { table, max: limits.bytes_max },
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, record) = (self.size(), self.record());
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("size", &size)
            .field("record", &record)
            .finish()
    }
}
