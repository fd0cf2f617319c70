//! What the operations of a table are made of: reading a row into a value,
//! writing a value with its image, and doing both until nobody was in between.
//!
//! Works on keys as bytes; waits for nothing but in `settle`.

use super::{
    Inner, Key, Table,
    rows::{self, Image, Row},
};
use crate::{
    Error, Result,
    glue::tables::Outcome,
    state::{self, State, StateError},
};
use replug_abi::{RowInfo, RowWrite, Written};
use std::{borrow::Cow, sync::atomic::Ordering::Relaxed, thread};

/// What a read takes from the stack; longer rows are read again from the heap.
const NEAR_BYTES: usize = 512;
/// So often is an image made anew in one write: it is asked for when a version
/// is committed or gone back to, which happens once in a write at most.
const IMAGES_MAX: u32 = 16;
/// After so many conflicts in one update others get the processor first.
const CONFLICTS_IN_A_ROW: u32 = 4;

impl<K: Key, V: State> Table<K, V> {
    /// The value of a row, whatever its schema.
    #[inline]
    pub(super) fn read(&self, key: &[u8]) -> Result<Option<V>> {
        loop {
            let read = self.inner.fetch(key, |info, bytes| match info.schema {
                0 => Ok(Some(None)),
                schema if schema == V::VERSION => {
                    let value = state::decode(bytes).map_err(|error| self.bad_row(key, &error))?;
                    Ok(Some(Some(value)))
                }
                // The value that it is of is later, and is not to be lost.
                schema if info.is_image != 0 => {
                    let value = rows::value(schema, bytes).map_err(|error| self.bad_row(key, &error))?;
                    Ok(Some(Some(value)))
                }
                _ => self.upgrade(key, info, bytes).map(|value| value.map(Some)),
            })??;
            if let Some(row) = read {
                return Ok(row);
            }
        }
    }

    /// The value of an older row, which is written back with it unless that would have the
    /// reader wait; none if the row was changed meanwhile.
    #[cold]
    fn upgrade(&self, key: &[u8], info: &RowInfo, bytes: &[u8]) -> Result<Option<V>> {
        if self.inner.is_sealed.load(Relaxed) {
            // Nobody would take it: no need to make images.
            return rows::value(info.schema, bytes).map(Some).map_err(|error| self.bad_row(key, &error));
        }
        let mut images = 0..IMAGES_MAX;
        loop {
            let row = rows::upgrade::<V>(info.schema, bytes, self.inner.host.image_schema())
                .map_err(|error| self.bad_row(key, &error))?;
            match self.inner.host.offer(key, &row.write(info.revision)) {
                Ok(Outcome::Conflict) => return Ok(None),
                Ok(Outcome::Image) if images.next().is_some() => {}
                // A refusal is none of the reader's: the row stays as it is.
                refused => {
                    if refused.is_err_and(|error| error.code() == "table.store_failed") {
                        self.inner.is_sealed.store(true, Relaxed);
                    }
                    return state::decode(&row.value).map(Some).map_err(|error| self.bad_row(key, &error));
                }
            }
        }
    }

    /// Calls `change` until its result could be written.
    pub(super) fn swap<F>(&self, key: &[u8], mut change: F) -> Result<(Option<V>, Written)>
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
                    _ => rows::value(info.schema, bytes).map(|value| (Some(value), info.revision)),
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
    pub(super) fn write(&self, key: &[u8], value: &V, expected: u64) -> Result<Option<Written>> {
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
    pub(super) fn write_any(&self, key: &[u8], value: &V) -> Result<Written> {
        self.write(key, value, RowWrite::ANY)?.ok_or_else(|| self.conflict(key))
    }

    pub(super) fn take_away(&self, key: &[u8]) -> Result<Written> {
        match self.inner.host.remove(key, RowWrite::ANY)? {
            Outcome::Done(written) => Ok(written),
            Outcome::Conflict | Outcome::Image => Err(self.conflict(key)),
        }
    }

    /// Waits where the table's durability asks for it.
    #[inline]
    pub(super) fn settle(&self, written: Written) -> Result<()> {
        if written.ticket == 0 { Ok(()) } else { self.inner.host.wait(written.ticket) }
    }

    #[cfg(feature = "async")]
    pub(super) async fn settle_async(&self, written: Written) -> Result<()> {
        if written.ticket == 0 { Ok(()) } else { self.inner.host.wait_async(written.ticket).await }
    }

    #[cold]
    fn conflict(&self, key: &[u8]) -> Error {
        self.row_error("table.failed", key, "the host refused a write as a conflict that cannot be one")
    }

    #[cold]
    pub(super) fn bad_row(&self, key: &[u8], error: &StateError) -> Error {
        self.row_error(rows::code(error), key, &error.report())
    }

    #[cold]
    pub(super) fn row_error(&self, code: &'static str, key: &[u8], what: &str) -> Error {
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
