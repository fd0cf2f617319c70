//! Tables: rows that the host keeps, and that every version of the plugin can
//! use at the same time.
//!
//! A plugin whose state lies in tables hands nothing over when its next version
//! takes its place, however many rows there are: they stay where they are, and
//! each is converted when the new version first touches it. Two versions serve
//! side by side, a canary and what it is to replace, on the same rows.
//!
//! ```
#![doc = include_str!("../../examples/tally.rs")]
//! # fn main() {}
//! ```
//!
//! Its own tests need no daemon: the module `testing` has a host in memory, with
//! which the next version's steps can be tried as well.
//!
//! # What a version promises
//!
//! The values are [versioned](crate::state): a version that changes their type
//! declares the type before it, and the steps between them. Then
//!
//! - it reads every row that an older version wrote. It is written back in the
//!   new schema when it is read or changed, and by the host otherwise;
//! - until it is committed, each of its writes leaves an image for the version
//!   before, made by the steps down. That version goes on reading and writing,
//!   beside it or after a rollback, and loses nothing;
//! - a `one_way` type can leave no image. It cannot serve beside the version
//!   before, and a rollback loses what it wrote.
//!
//! A step down that fails is the error of the write that needed it.
//!
//! # Changing a row
//!
//! [`put`](Table::put) and [`remove`](Table::remove) take effect whatever the
//! row was. What depends on the row goes through [`update`](Table::update):
//! it reads, calls the closure, and writes if nobody else has written in
//! between, or else begins again. So the closure may run more than once, with
//! other values; it has no effects of its own. No update is lost, whether the
//! others are threads, methods or versions.
//!
//! # Durability and waiting
//!
//! | [`Durability`] | a write is acknowledged | and survives |
//! |---|---|---|
//! | `Memory` (the default) | at once | the next version |
//! | `Process` | at once | also the end of the process, whatever ends it |
//! | `Disk` | when the disk has confirmed it | also a loss of power |
//!
//! It is what the plugin asks for at least; the operator can ask for more.
//! Nothing here waits but writes to a table that is kept on disk: these hold
//! their thread until the disk has answered. Async handlers await them instead,
//! with `put_async` and its like (feature `async`). A write is seen by others
//! before it is acknowledged.
//!
//! # Limits
//!
//! A key has 1 KiB at most, a value 16 MiB, as bytes (`table.key_too_large`,
//! `table.row_too_large`). A table has as many rows and bytes as
//! [`TableOptions`] or the host allow (`table.rows_max`, `table.bytes_max`);
//! what does not make it larger is always possible. Until the version is being
//! activated its tables can be read, not written (`table.not_active`).

mod key;
mod opened;
mod rows;
mod scan;

pub use key::{AsKey, Key};
pub(crate) use opened::Opened;
pub use scan::Scan;

use crate::{
    Error, Result,
    glue::tables::{HostTable, Outcome},
    state::{self, State, StateError},
};
use replug_abi::{RowInfo, RowWrite, Written};
use rows::{Image, Row};
use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc, thread};

/// A table of the host: rows of type `V` by keys of type `K`.
///
/// Opened by [`Context::table`](crate::Context::table). Clones are the same
/// table, and any thread may use them. The [module](self) says what rows go
/// through when versions change.
///
/// Keys are borrowed: a table with keys of `String` takes a `&str`, one with
/// `(String, u64)` a `&(&str, u64)`.
///
/// # Errors
/// Of every method: `table.corrupt` where bytes are no row of the type,
/// `state.bad` where a step refuses one or a value has no bytes, and what the
/// host says. A write that failed has changed nothing, but for
/// `table.store_failed` of a table that is kept on disk.
pub struct Table<K, V> {
    inner: Arc<Inner>,
    types: PhantomData<fn(K) -> V>,
}

struct Inner {
    host: HostTable,
    name: String,
}

/// When a write to a table is acknowledged; the [module](self) has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// When it is in memory.
    #[default]
    Memory,
    /// When it survives the end of the process.
    Process,
    /// When it survives a loss of power.
    Disk,
}

impl Durability {
    fn into_abi(self) -> replug_abi::Durability {
        match self {
            Durability::Memory => replug_abi::Durability::MEMORY,
            Durability::Process => replug_abi::Durability::PROCESS,
            Durability::Disk => replug_abi::Durability::DISK,
        }
    }
}

/// What is asked of a table beside its name.
///
/// ```
/// use replug_plugin_api::table::{Durability, TableOptions};
///
/// const ORDERS: TableOptions = TableOptions::new().durability(Durability::Disk).rows_max(100_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableOptions {
    durability: Durability,
    rows_max: u64,
    bytes_max: u64,
}

impl TableOptions {
    /// In memory, with the host's limits.
    pub const fn new() -> Self {
        TableOptions { durability: Durability::Memory, rows_max: 0, bytes_max: 0 }
    }

    /// At least so durable.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub const fn rows_max(mut self, rows: u64) -> Self {
        self.rows_max = rows;
        self
    }

    /// At most so many bytes of keys and values, with what the host keeps for
    /// each row.
    #[must_use]
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }
}

/// What a read takes from the stack; longer rows are read again from the heap.
const NEAR_BYTES: usize = 512;
/// So often is an image made anew in one write: it is asked for when a version
/// is committed or gone back to, which happens once in a write at most.
const IMAGES_MAX: u32 = 16;
/// After so many conflicts in one update others get the processor first.
const CONFLICTS_IN_A_ROW: u32 = 4;

impl<K: Key, V: State> Table<K, V> {
    /// The row of a key. One of an older schema is converted, and written back
    /// unless that is refused, or somebody else was faster.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn get<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        key.with_bytes(|key| {
            loop {
                let read = self.inner.fetch(key, |info, bytes| match info.schema {
                    0 => Ok(Some(None)),
                    schema if schema == V::VERSION => state::decode(bytes)
                        .map(|value| Some(Some(value)))
                        .map_err(|error| self.bad_row(key, &error)),
                    _ => self.upgrade(key, info, bytes).map(|value| value.map(Some)),
                })??;
                if let Some(row) = read {
                    return Ok(row);
                }
            }
        })
    }

    /// Writes a row, whatever it was.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn put<Q: AsKey<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<()> {
        let written = key.with_bytes(|key| self.write_any(key, value))?;
        self.settle(written)
    }

    /// Writes a row if there is none; whether there was none.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn insert<Q: AsKey<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<bool> {
        match key.with_bytes(|key| self.write(key, value, RowInfo::NO_ROW))? {
            Some(written) => self.settle(written).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes a row; whether there was one.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn remove<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let written = key.with_bytes(|key| self.take_away(key))?;
        self.settle(written)?;
        Ok(written.existed != 0)
    }

    /// Changes a row: `change` makes the new one of the old one, each none for
    /// no row. Returns the new one.
    ///
    /// `change` is called again, with the row as it then is, when somebody else
    /// has written it in between.
    ///
    /// ```
    /// # use replug_plugin_api::{prelude::*, state::State};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize, State)]
    /// # #[state(version = 1)]
    /// # struct Stock { pieces: u32 }
    /// fn take_one(stock: &Table<String, Stock>, item: &str) -> Result<u32> {
    ///     let left = stock.try_update(item, |stock| match stock {
    ///         None => Err(Error::new("stock.none", "sold out")),
    ///         Some(Stock { pieces: 1 }) => Ok(None),
    ///         Some(Stock { pieces }) => Ok(Some(Stock { pieces: pieces - 1 })),
    ///     })?;
    ///     Ok(left.map_or(0, |stock| stock.pieces))
    /// }
    /// ```
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn update<Q, F>(&self, key: &Q, mut change: F) -> Result<Option<V>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnMut(Option<V>) -> Option<V>,
    {
        self.try_update(key, |row| Ok(change(row)))
    }

    /// As [`update`](Table::update), with a way out: an error of `change` leaves
    /// the row as it is.
    ///
    /// # Errors
    /// Those of `change`, and as the [type](Table) says.
    pub fn try_update<Q, F>(&self, key: &Q, change: F) -> Result<Option<V>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnMut(Option<V>) -> Result<Option<V>>,
    {
        let (row, written) = key.with_bytes(|key| self.swap(key, change))?;
        self.settle(written)?;
        Ok(row)
    }

    /// All rows, in no order. One that is there for the whole time is met once,
    /// in a state that it had meanwhile; those that come, go or change while
    /// the iterator is under way may be met or not. Older rows are converted,
    /// and not written back.
    ///
    /// A row that cannot be read is an error in its place, and the iterator
    /// goes on behind it; it ends behind an error of the host.
    pub fn scan(&self) -> Scan<K, V> {
        Scan::new(self.clone())
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.inner.host.size().rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the rows that are there when it is called.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn clear(&self) -> Result<()> {
        let written = self.inner.host.clear()?;
        self.settle(written)
    }

    /// As [`put`](Table::put); awaits a disk where the table is kept on one.
    ///
    /// The row is written when the future is first polled. One that is dropped
    /// after that leaves it written, and does not say how durable.
    ///
    /// # Errors
    /// As [`put`](Table::put).
    #[cfg(feature = "async")]
    pub async fn put_async<Q: AsKey<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<()> {
        let written = key.with_bytes(|key| self.write_any(key, value))?;
        self.settle_async(written).await
    }

    /// As [`remove`](Table::remove) and [`put_async`](Table::put_async).
    ///
    /// # Errors
    /// As [`remove`](Table::remove).
    #[cfg(feature = "async")]
    pub async fn remove_async<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let written = key.with_bytes(|key| self.take_away(key))?;
        self.settle_async(written).await?;
        Ok(written.existed != 0)
    }

    /// As [`try_update`](Table::try_update) and [`put_async`](Table::put_async).
    ///
    /// # Errors
    /// As [`try_update`](Table::try_update).
    #[cfg(feature = "async")]
    pub async fn try_update_async<Q, F>(&self, key: &Q, change: F) -> Result<Option<V>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnMut(Option<V>) -> Result<Option<V>>,
    {
        let (row, written) = key.with_bytes(|key| self.swap(key, change))?;
        self.settle_async(written).await?;
        Ok(row)
    }

    /// As [`update`](Table::update) and [`put_async`](Table::put_async).
    ///
    /// # Errors
    /// As [`update`](Table::update).
    #[cfg(feature = "async")]
    pub async fn update_async<Q, F>(&self, key: &Q, mut change: F) -> Result<Option<V>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnMut(Option<V>) -> Option<V>,
    {
        self.try_update_async(key, |row| Ok(change(row))).await
    }

    /// The value of an older row, which is written back with it; none if the
    /// row was changed meanwhile.
    #[cold]
    fn upgrade(&self, key: &[u8], info: &RowInfo, bytes: &[u8]) -> Result<Option<V>> {
        let mut images = 0..IMAGES_MAX;
        loop {
            let row = rows::upgrade::<V>(info.schema, bytes, self.inner.host.image_schema())
                .map_err(|error| self.bad_row(key, &error))?;
            match self.inner.host.put(key, &row.write(info.revision)) {
                Ok(Outcome::Conflict) => return Ok(None),
                Ok(Outcome::Image) if images.next().is_some() => {}
                // A refusal is none of the reader's: the row stays as it is.
                Ok(_) | Err(_) => {
                    return state::decode(&row.value).map(Some).map_err(|error| self.bad_row(key, &error));
                }
            }
        }
    }

    /// Calls `change` until its result could be written.
    fn swap<F>(&self, key: &[u8], mut change: F) -> Result<(Option<V>, Written)>
    where
        F: FnMut(Option<V>) -> Result<Option<V>>,
    {
        for conflicts in 0..u32::MAX {
            if conflicts >= CONFLICTS_IN_A_ROW {
                thread::yield_now();
            }
            let (old, revision) = self
                .inner
                .fetch(key, |info, bytes| match info.schema {
                    0 => Ok((None, RowInfo::NO_ROW)),
                    _ => rows::value(info, bytes).map(|value| (Some(value), info.revision)),
                })?
                .map_err(|error| self.bad_row(key, &error))?;
            let Some(new) = change(old)? else {
                if revision == RowInfo::NO_ROW {
                    return Ok((None, Written::NOTHING));
                }
                match self.inner.host.remove(key, revision)? {
                    Outcome::Done(written) => return Ok((None, written)),
                    Outcome::Conflict | Outcome::Image => continue,
                }
            };
            if let Some(written) = self.write(key, &new, revision)? {
                return Ok((Some(new), written));
            }
        }
        Err(self.row_error("table.conflict", key, "others never ceased to change the row"))
    }

    /// Writes a row with this revision; none if it has another.
    #[inline]
    fn write(&self, key: &[u8], value: &V, expected: u64) -> Result<Option<Written>> {
        let bytes = state::encode(value).map_err(|error| self.bad_row(key, &error))?;
        for _ in 0..IMAGES_MAX {
            let image: Image<'_> = rows::image::<V>(&bytes, self.inner.host.image_schema())
                .map_err(|error| self.bad_row(key, &error))?;
            let row = Row { value: Cow::Borrowed(&bytes), image };
            match self.inner.host.put(key, &row.write(expected))? {
                Outcome::Done(written) => return Ok(Some(written)),
                Outcome::Conflict => return Ok(None),
                Outcome::Image => {}
            }
        }
        Err(self.row_error("table.failed", key, "the host never ceased to ask for other images"))
    }

    #[inline]
    fn write_any(&self, key: &[u8], value: &V) -> Result<Written> {
        self.write(key, value, RowWrite::ANY)?.ok_or_else(|| self.conflict(key))
    }

    fn take_away(&self, key: &[u8]) -> Result<Written> {
        match self.inner.host.remove(key, RowWrite::ANY)? {
            Outcome::Done(written) => Ok(written),
            Outcome::Conflict | Outcome::Image => Err(self.conflict(key)),
        }
    }

    /// Waits where the table's durability asks for it.
    #[inline]
    fn settle(&self, written: Written) -> Result<()> {
        if written.ticket == 0 { Ok(()) } else { self.inner.host.wait(written.ticket) }
    }

    #[cfg(feature = "async")]
    async fn settle_async(&self, written: Written) -> Result<()> {
        if written.ticket == 0 { Ok(()) } else { self.inner.host.wait_async(written.ticket).await }
    }

    #[cold]
    fn conflict(&self, key: &[u8]) -> Error {
        self.row_error("table.failed", key, "the host refused a write as a conflict that cannot be one")
    }

    #[cold]
    fn bad_row(&self, key: &[u8], error: &StateError) -> Error {
        self.row_error(rows::code(error), key, &error.report())
    }

    #[cold]
    fn row_error(&self, code: &'static str, key: &[u8], what: &str) -> Error {
        /// As much of a key as a message has.
        const SHOWN: usize = 64;
        let shown = key[..key.len().min(SHOWN)].escape_ascii();
        Error::new(code, format!("table {:?}, row \"{shown}\": {what}", self.inner.name))
    }
}

impl Inner {
    /// What `read` makes of a row's bytes.
    #[inline]
    fn fetch<R>(&self, key: &[u8], read: impl FnOnce(&RowInfo, &[u8]) -> R) -> Result<R> {
        let mut near = [0; NEAR_BYTES];
        let mut info = self.host.get(key, &mut near)?;
        if let Some(bytes) = near.get(..info.bytes) {
            return Ok(read(&info, bytes));
        }
        let mut far = Vec::new();
        // Again if it grew meanwhile.
        while far.len() < info.bytes {
            far.resize(info.bytes, 0);
            info = self.host.get(key, &mut far)?;
        }
        Ok(read(&info, &far[..info.bytes]))
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Table { inner: Arc::clone(&self.inner), types: PhantomData }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
