//! A table as one version of a plugin sees it: reads and writes in its schema.
//!
//! A view is given what its version can read, and is asked for what others
//! need. It runs no code of a plugin: bytes come in and go out.

use crate::table::control::Limits;
use crate::table::core::{Locked, Table};
use crate::table::error::{TableError, shown};
use crate::table::journal::Ticket;
use crate::table::row::{Image, Row, RowRef};
use parking_lot::Mutex;
use replug_abi::{RowInfo, RowWrite, TableSize, Written};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes that a key may have.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes that a value may have; its image, which is the same in another schema,
/// may have as many.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows larger than this are copied out when the lock is given back.
const COPY_LOCKED_BYTES_MAX: usize = 4096;
/// The generation of a view that has not been activated; no version has it.
const NOT_YET: u32 = 0;

/// A table, as the version of a plugin that opened it sees it.
///
/// Reads work at once, writes from [`activate`](Self::activate) to
/// [`leave`](Self::leave). All functions may be called on any thread. Only
/// [`wait`](Self::wait) waits for a disk; writes do while it has far too much to do,
/// and while a commit that would have them be in vain is open.
///
/// ```
/// use replug_host::table::{Limits, NewImage, Table, View, Write, WriteOutcome};
///
/// let table = Table::new("sessions", Limits::NONE);
/// let first = View::new(&table, 1);
/// first.activate()?;
/// table.commit(1)?;
/// first.put(b"ann", &Write::new(b"schema 1"))?;
///
/// // A version that is tried beside it leaves an image that the first one reads.
/// let second = View::new(&table, 2);
/// let generation = second.activate()?;
/// let image = NewImage::Of { schema: second.image_schema(), bytes: b"the same in 1" };
/// let outcome = second.put(b"ann", &Write { image, ..Write::new(b"schema 2") })?;
/// assert!(matches!(outcome, WriteOutcome::Written(_)));
///
/// let mut bytes = [0; 64];
/// let row = first.get(b"ann", &mut bytes)?;
/// assert_eq!((row.schema, &bytes[..row.bytes]), (1, &b"the same in 1"[..]));
///
/// // And if it is gone back from, nothing that it wrote is lost.
/// table.roll_back(generation, 1)?;
/// let row = second.get(b"ann", &mut bytes)?;
/// assert_eq!((row.schema, &bytes[..row.bytes]), (1, &b"the same in 1"[..]));
/// # Ok::<(), replug_host::table::TableError>(())
/// ```
#[derive(Debug)]
pub struct View {
    pub(super) table: Arc<Table>,
    schema: u32,
    limits: Limits,
    /// Relaxed: a number that the control, read under a lock, knows or not. A
    /// thread that does not see it yet is refused, as it was a moment before.
    generation: AtomicU32,
    /// Whether it may write no more, whoever allows it. Held while that or a
    /// generation changes.
    is_shut: Mutex<bool>,
}

/// A row to be written.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The value, in the schema of the view.
    pub value: &'a [u8],
    /// What older versions read.
    pub image: NewImage<'a>,
    /// Only if the row has this revision; [`RowWrite::ANY`] whatever it has, and
    /// [`RowInfo::NO_ROW`] if there is none.
    pub expected: u64,
}

impl<'a> Write<'a> {
    /// A value without an image, whatever is there.
    pub fn new(value: &'a [u8]) -> Self {
        Write { value, image: NewImage::None, expected: RowWrite::ANY }
    }
}

/// What comes with a value for older versions to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewImage<'a> {
    /// Nothing: [`View::image_schema`] is 0.
    None,
    /// The value in this schema.
    Of {
        /// What [`View::image_schema`] says.
        schema: u32,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The version has no step down: what the row was before has to do.
    NoWayBack,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was made.
    Written(Written),
    /// It was not: the row has this revision.
    Conflict(Written),
    /// It was not: its image is to have another schema; see
    /// [`View::image_schema`].
    Image,
}

impl View {
    /// Opens a table for a version of this schema, which is 1 or higher.
    pub fn new(table: &Arc<Table>, schema: u32) -> View {
        let (table, limits) = (Arc::clone(table), Limits::NONE);
        View { table, schema, limits, generation: AtomicU32::new(NOT_YET), is_shut: Mutex::new(false) }
    }

    /// The same with limits of the version's own, within those of the table. They
    /// bind what it writes, and nobody else.
    pub fn with_limits(mut self, limits: Limits) -> View {
        self.limits = limits;
        self
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The schema that the version reads and writes.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// The generation of the last activation; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Allows writes, under a generation that no version had before. To be
    /// called again when a version that had left comes back.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]; [`TableError::NotActive`] after
    /// [`shut`](Self::shut).
    pub fn activate(&self) -> Result<u32, TableError> {
        let is_shut = self.is_shut.lock();
        if *is_shut {
            return Err(self.table.not_active());
        }
        let before = self.generation();
        let generation = self.table.change(|control| {
            control.end(before);
            control.begin(self.schema)
        })?;
        self.generation.store(generation, Relaxed);
        Ok(generation)
    }

    /// Allows no activation any more; one that is under way is waited for.
    pub fn shut(&self) {
        *self.is_shut.lock() = true;
    }

    /// Allows no more writes.
    pub fn leave(&self) {
        let generation = self.generation();
        // A sweep begins anew with each change of the control: once is enough.
        if self.table.control().is_writer(generation) {
            // Who may write is not in the record: this cannot fail.
            _ = self.table.change(|control| control.end(generation));
        }
    }

    /// The schema that the image of a row to be written has to have; 0 for none.
    pub fn image_schema(&self) -> u32 {
        self.table.control().image_schema(self.schema, self.generation())
    }

    /// Reads a row into `into`, or only says how long it is if there is not
    /// enough room.
    ///
    /// # Errors
    /// [`TableError::NewerRow`]
    pub fn get(&self, key: &[u8], into: &mut [u8]) -> Result<RowInfo, TableError> {
        let place = self.table.shards.place(key);
        let shard = self.table.shards.read(place);
        let Some(row) = shard.find(place, key) else { return Ok(RowInfo::NONE) };
        let control = self.table.control();
        let Some(parts) = control.effective(row.parts()) else { return Ok(RowInfo::NONE) };
        let (schema, bytes) = self.readable(&parts)?;
        let is_image = u32::from(parts.schema > self.schema);
        let info = RowInfo { schema, revision: parts.revision, is_image, bytes: bytes.len() };
        if bytes.len() <= into.len().min(COPY_LOCKED_BYTES_MAX) {
            into[..bytes.len()].copy_from_slice(bytes);
        } else if bytes.len() <= into.len() {
            let row = row.clone();
            drop(shard);
            let whole = control.effective(row.parts()).and_then(|parts| parts.readable(self.schema));
            let (_, bytes) = whole.unwrap_or_default();
            into[..bytes.len()].copy_from_slice(bytes);
        }
        Ok(info)
    }

    /// Writes a row. Of a version that has been rolled back only the image is
    /// written, since nothing else would count.
    ///
    /// # Errors
    /// [`TableError::NotActive`], [`TableError::KeyTooLarge`],
    /// [`TableError::RowTooLarge`], [`TableError::RowsMax`],
    /// [`TableError::BytesMax`], [`TableError::StoreFailed`]: nothing was
    /// written.
    pub fn put(&self, key: &[u8], write: &Write<'_>) -> Result<WriteOutcome, TableError> {
        self.check_sizes(key, write)?;
        let new = self.new_row(key, write);
        // Made before the lock is taken, as it nearly always is what is wanted.
        let row = Row::new(&new);
        let place = self.table.shards.place(key);
        self.put_in(place, self.table.write_to(|shards| shards.write(place)), write, new, row)
    }

    /// The same with what a reader has made of an older row, unless another thread is at
    /// work on the rows around it or in their store: then none, and nothing was written. A
    /// sweep or the next reader will. What a store takes at once is written at once.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn offer(&self, key: &[u8], write: &Write<'_>) -> Result<Option<WriteOutcome>, TableError> {
        self.check_sizes(key, write)?;
        let new = self.new_row(key, write);
        let row = Row::new(&new);
        let place = self.table.shards.place(key);
        let Some(locked) = self.table.try_write_to(place) else { return Ok(None) };
        self.put_in(place, locked, write, new, row).map(Some)
    }

    fn new_row<'a>(&self, key: &'a [u8], write: &Write<'a>) -> RowRef<'a> {
        let image = match write.image {
            NewImage::Of { schema, bytes } => Some(Image { schema, bytes, fresh: true }),
            NewImage::None | NewImage::NoWayBack => None,
        };
        let (schema, generation) = (self.schema, self.generation());
        RowRef { key, value: write.value, schema, generation, revision: RowInfo::NO_ROW, image }
    }

    /// Decides under the lock what is written, which is `row` unless the control says
    /// otherwise.
    fn put_in(
        &self,
        place: u64,
        (_telling, mut shard): Locked<'_>,
        write: &Write<'_>,
        new: RowRef<'_>,
        mut row: Row,
    ) -> Result<WriteOutcome, TableError> {
        let RowRef { key, schema, generation, image, .. } = new;
        let control = self.table.control();
        if !control.is_writer(generation) {
            return Err(self.table.not_active());
        }
        let before = shard.find(place, key).and_then(|row| control.effective(row.parts()));
        if let Some(conflict) = conflict(before.as_ref(), write.expected) {
            return Ok(conflict);
        }
        let needed = control.image_schema(schema, generation);
        let void = control.is_void(schema, generation);
        match (write.image, image) {
            // Nothing of it would count: it was taken back before it was made.
            _ if void && (needed == 0 || write.image == NewImage::NoWayBack) => {
                return Ok(WriteOutcome::Written(there(before.as_ref())));
            }
            (NewImage::None | NewImage::NoWayBack, _) if needed == 0 => {}
            (NewImage::NoWayBack, _) => {
                let image = before.as_ref().and_then(|before| last_image(before, needed));
                row = Row::new(&RowRef { image, ..new });
            }
            (_, Some(image)) if needed == image.schema && void => row = Row::new(&new.fall_back(image)),
            (_, Some(image)) if needed == image.schema => {}
            _ => return Ok(WriteOutcome::Image),
        }
        let existed = u32::from(before.is_some());
        let revision = shard.next_revision();
        row.set_revision(revision);
        let limits = control.limits.and(self.limits);
        let (ticket, old) = self.table.set(&mut shard, place, key, Some(row), limits)?;
        drop(shard);
        drop(old);
        Ok(WriteOutcome::Written(Written { revision, ticket: ticket.0, existed }))
    }

    /// Removes a row, if it has the revision `expected`, which is as in
    /// [`Write::expected`].
    ///
    /// # Errors
    /// [`TableError::NotActive`], [`TableError::StoreFailed`]
    pub fn remove(&self, key: &[u8], expected: u64) -> Result<WriteOutcome, TableError> {
        let place = self.table.shards.place(key);
        let (_telling, mut shard) = self.table.write_to(|shards| shards.write(place));
        let control = self.table.control();
        if !control.is_writer(self.generation()) {
            return Err(self.table.not_active());
        }
        let before = shard.find(place, key).and_then(|row| control.effective(row.parts()));
        if let Some(conflict) = conflict(before.as_ref(), expected) {
            return Ok(conflict);
        }
        if before.is_none() {
            return Ok(WriteOutcome::Written(Written::NOTHING));
        }
        let (ticket, old) = self.table.set(&mut shard, place, key, None, Limits::NONE)?;
        drop(shard);
        drop(old);
        Ok(WriteOutcome::Written(Written { revision: RowInfo::NO_ROW, ticket: ticket.0, existed: 1 }))
    }

    /// Removes all rows that there are at one moment of the call. Callers of
    /// other functions wait some hundred microseconds meanwhile, however many
    /// rows there are.
    ///
    /// # Errors
    /// [`TableError::NotActive`], [`TableError::StoreFailed`]
    pub fn clear(&self) -> Result<Written, TableError> {
        let (ticket, existed) = self.table.clear(self.generation())?;
        Ok(Written { revision: RowInfo::NO_ROW, ticket: ticket.0, existed: u32::from(existed) })
    }

    /// How large the table is.
    pub fn size(&self) -> TableSize {
        self.table.size()
    }

    /// Waits until a write is as durable as the table promises.
    ///
    /// # Errors
    /// [`TableError::StoreFailed`]
    pub fn wait(&self, ticket: u64) -> Result<(), TableError> {
        self.table.wait(Ticket(ticket))
    }

    pub(super) fn readable<'a>(&self, row: &RowRef<'a>) -> Result<(u32, &'a [u8]), TableError> {
        row.readable(self.schema).ok_or_else(|| TableError::NewerRow {
            table: Arc::clone(&self.table.name),
            key: shown(row.key),
            schema: row.schema,
            reader: self.schema,
        })
    }

    fn check_sizes(&self, key: &[u8], write: &Write<'_>) -> Result<(), TableError> {
        let table = || Arc::clone(&self.table.name);
        if key.len() > KEY_BYTES_MAX {
            return Err(TableError::KeyTooLarge { table: table(), bytes: key.len(), max: KEY_BYTES_MAX });
        }
        let image = match write.image {
            NewImage::Of { bytes, .. } => bytes.len(),
            NewImage::None | NewImage::NoWayBack => 0,
        };
        let bytes = write.value.len().max(image);
        if bytes > VALUE_BYTES_MAX {
            let (key, max) = (shown(key), VALUE_BYTES_MAX);
            return Err(TableError::RowTooLarge { table: table(), key, bytes, max });
        }
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.leave();
    }
}

fn conflict(before: Option<&RowRef<'_>>, expected: u64) -> Option<WriteOutcome> {
    let there = there(before);
    let met = expected == RowWrite::ANY || expected == there.revision;
    (!met).then_some(WriteOutcome::Conflict(there))
}

/// What stays if nothing is written.
fn there(before: Option<&RowRef<'_>>) -> Written {
    let revision = before.map_or(RowInfo::NO_ROW, |row| row.revision);
    Written { revision, ticket: 0, existed: u32::from(before.is_some()) }
}

/// What is left to go back to when a row is overwritten without a way back.
fn last_image<'a>(before: &RowRef<'a>, needed: u32) -> Option<Image<'a>> {
    let (schema, bytes) = before.readable(needed)?;
    Some(Image { schema, bytes, fresh: false })
}
