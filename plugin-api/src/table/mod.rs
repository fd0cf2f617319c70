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
//!   new schema when it is changed, mostly when it is read, and by the host
//!   otherwise;
//! - until it is committed, each of its writes leaves an image for the version
//!   before, made by the steps down. That version goes on reading and writing,
//!   beside it or after a rollback, and loses nothing that was written. What was
//!   removed stays removed, whichever version did it;
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

mod access;
mod key;
mod opened;
mod options;
mod rows;
mod scan;

pub use key::{AsKey, Key};
pub(crate) use opened::Opened;
pub use options::{Durability, TableOptions};
pub use scan::Scan;

use crate::{Result, glue::tables::HostTable, state::State};
use replug_abi::RowInfo;
use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, atomic::AtomicBool},
};

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
    /// The host's store has failed: no write will be taken any more. Relaxed: who
    /// does not see it yet is told by the host.
    is_sealed: AtomicBool,
}

impl<K: Key, V: State> Table<K, V> {
    /// The row of a key. One of an older schema is converted, and written back
    /// unless that is refused, somebody else was faster, or another thread is at
    /// work there. It waits for no disk to confirm anything.
    ///
    /// # Errors
    /// As the [type](Table) says.
    pub fn get<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        key.with_bytes(|key| self.read(key))
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
