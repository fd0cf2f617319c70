//! Tables in memory, by the rules of the ABI: bytes with a schema, a revision
//! and an image. One lock for each; it is there to be right.

use replug_abi::{Durability, RowInfo, RowWrite, SCAN_END, ScannedRow, TableSize, Written};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

const KEY_BYTES_MAX: usize = 1 << 10;
const VALUE_BYTES_MAX: usize = 16 << 20;
/// Rows that one call of `scan` answers with.
const SCAN_ROWS: usize = 256;

/// All tables of a host.
#[derive(Default)]
pub(super) struct Store {
    tables: Mutex<BTreeMap<String, &'static Rows>>,
    /// Relaxed: a test that needs it seen by another thread has its own means.
    refuses_writes: AtomicBool,
    /// Relaxed: likewise.
    disk_failed: AtomicBool,
}

impl Store {
    pub(super) fn table(&self, name: &str) -> &'static Rows {
        let mut tables = lock(&self.tables);
        // For the views, which live as long as the process.
        tables.entry(name.to_owned()).or_insert_with(|| Box::leak(Box::default()))
    }

    pub(super) fn refuse_writes(&self, refuse: bool) {
        self.refuses_writes.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn fail_disk(&self, fail: bool) {
        self.disk_failed.store(fail, Ordering::Relaxed);
    }
}

/// One table.
#[derive(Default)]
pub(super) struct Rows(Mutex<State>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Row>,
    /// The rows' keys in the order in which they came.
    order: BTreeMap<u64, Vec<u8>>,
    /// The committed schema; 0 before there is one.
    base: u32,
    /// The last revision, and the last number in the order.
    last: u64,
    bytes: u64,
}

struct Row {
    schema: u32,
    revision: u64,
    number: u64,
    value: Vec<u8>,
    image: Option<(u32, Vec<u8>)>,
}

impl Row {
    /// What a reader of a schema reads.
    fn read_by(&self, schema: u32) -> Result<(u32, &[u8]), (&'static str, &'static str)> {
        if self.schema <= schema {
            return Ok((self.schema, &self.value));
        }
        match &self.image {
            Some((image, bytes)) if *image <= schema => Ok((*image, bytes)),
            _ => Err(("table.newer_row", "the row is of a later version, which left no image")),
        }
    }

    fn bytes(&self, key: &[u8]) -> u64 {
        (key.len() + self.value.len() + self.image.as_ref().map_or(0, |(_, bytes)| bytes.len())) as u64
    }
}

impl Rows {
    pub(super) fn commit(&self, schema: u32) {
        lock(&self.0).base = schema;
    }
}

/// Why something was not done.
pub(super) enum Refused {
    Conflict { revision: u64 },
    Image,
    Error(&'static str, &'static str),
}

/// A table as one version sees it.
pub(super) struct View {
    pub(super) store: &'static Store,
    pub(super) rows: &'static Rows,
    pub(super) schema: u32,
    pub(super) durability: Durability,
    pub(super) rows_max: u64,
    pub(super) bytes_max: u64,
}

impl View {
    pub(super) fn image_schema(&self) -> u32 {
        image_schema(&lock(&self.rows.0), self.schema)
    }

    pub(super) fn get(&self, key: &[u8], into: &mut [u8]) -> Result<RowInfo, Refused> {
        let state = lock(&self.rows.0);
        let Some(row) = state.rows.get(key) else {
            return Ok(RowInfo::NONE);
        };
        let unread = |(code, message)| Refused::Error(code, message);
        let (schema, bytes) = row.read_by(self.schema).map_err(unread)?;
        if let Some(into) = into.get_mut(..bytes.len()) {
            into.copy_from_slice(bytes);
        }
        let is_image = u32::from(row.schema > self.schema);
        Ok(RowInfo { schema, revision: row.revision, is_image, bytes: bytes.len() })
    }

    pub(super) fn put(&self, key: &[u8], write: &RowWrite<'_>) -> Result<Written, Refused> {
        let mut state = self.to_be_written(key, write.expected)?;
        if write.value.len() > VALUE_BYTES_MAX {
            return Err(Refused::Error("table.row_too_large", "a row has 16 MiB at most"));
        }
        let image_schema = image_schema(&state, self.schema);
        let image = match write.image_schema {
            RowWrite::NO_WAY_BACK if image_schema != RowWrite::NO_IMAGE => state.kept_image(key),
            schema if schema != image_schema => return Err(Refused::Image),
            RowWrite::NO_IMAGE => None,
            schema => Some((schema, write.image.to_vec())),
        };
        let old = state.rows.get(key).map(|row| (row.number, row.bytes(key)));
        let (number, old_bytes) = old.unwrap_or((state.last + 1, 0));
        let revision = state.last + 1;
        let row = Row { schema: self.schema, revision, number, value: write.value.to_vec(), image };
        let bytes = row.bytes(key);
        if old.is_none() && self.rows_max != 0 && state.rows.len() as u64 >= self.rows_max {
            return Err(Refused::Error("table.rows_max", "the table has as many rows as it may"));
        }
        let all = state.bytes - old_bytes + bytes;
        if bytes > old_bytes && self.bytes_max != 0 && all > self.bytes_max {
            return Err(Refused::Error("table.bytes_max", "the table has as many bytes as it may"));
        }
        (state.last, state.bytes) = (revision, all);
        state.order.insert(number, key.to_vec());
        state.rows.insert(key.to_vec(), row);
        Ok(self.written(revision, old.is_some()))
    }

    pub(super) fn remove(&self, key: &[u8], expected: u64) -> Result<Written, Refused> {
        let mut state = self.to_be_written(key, expected)?;
        let Some(row) = state.rows.remove(key) else {
            return Ok(Written::NOTHING);
        };
        state.order.remove(&row.number);
        state.bytes -= row.bytes(key);
        Ok(self.written(RowInfo::NO_ROW, true))
    }

    pub(super) fn clear(&self) -> Result<Written, Refused> {
        self.demand_writes()?;
        let mut state = lock(&self.rows.0);
        let existed = !state.rows.is_empty();
        state.rows.clear();
        state.order.clear();
        state.bytes = 0;
        Ok(self.written(RowInfo::NO_ROW, existed))
    }

    /// The next rows, and the cursor behind them.
    pub(super) fn scan(&self, cursor: u64) -> (Vec<u8>, u64) {
        let state = lock(&self.rows.0);
        let mut batch = Vec::new();
        let mut next = SCAN_END;
        for (at, (number, key)) in state.order.range((Bound::Included(cursor), Bound::Unbounded)).enumerate()
        {
            if at == SCAN_ROWS {
                next = *number;
                break;
            }
            let row = &state.rows[key];
            let revision = row.revision;
            match row.read_by(self.schema) {
                Ok((schema, value)) => {
                    ScannedRow { key, value, schema, revision }.append_to(&mut batch);
                }
                Err((code, message)) => {
                    ScannedRow::append_failure(key, revision, code, message, &mut batch);
                }
            }
        }
        (batch, next)
    }

    pub(super) fn size(&self) -> TableSize {
        let state = lock(&self.rows.0);
        TableSize { rows: state.rows.len() as u64, bytes: state.bytes }
    }

    /// The table, if a write to the row may be made.
    fn to_be_written(&self, key: &[u8], expected: u64) -> Result<MutexGuard<'static, State>, Refused> {
        self.demand_writes()?;
        if key.len() > KEY_BYTES_MAX {
            return Err(Refused::Error("table.key_too_large", "a key has 1 KiB at most"));
        }
        let state = lock(&self.rows.0);
        let revision = state.rows.get(key).map_or(RowInfo::NO_ROW, |row| row.revision);
        if expected != RowWrite::ANY && expected != revision {
            return Err(Refused::Conflict { revision });
        }
        Ok(state)
    }

    fn demand_writes(&self) -> Result<(), Refused> {
        if self.store.refuses_writes.load(Ordering::Relaxed) {
            return Err(Refused::Error("table.not_active", "the version is not active"));
        }
        if self.store.disk_failed.load(Ordering::Relaxed) {
            return Err(Refused::Error("table.store_failed", "the disk has failed"));
        }
        Ok(())
    }

    /// A write to a table on disk is waited for, as if there were one.
    fn written(&self, revision: u64, existed: bool) -> Written {
        let ticket = u64::from(self.durability == Durability::DISK);
        Written { revision, ticket, existed: existed.into() }
    }
}

/// The schema of the images that a version of `schema` leaves.
fn image_schema(state: &State, schema: u32) -> u32 {
    if state.base == schema { RowWrite::NO_IMAGE } else { state.base }
}

impl State {
    /// What older versions go on reading when a new value leaves no image.
    fn kept_image(&self, key: &[u8]) -> Option<(u32, Vec<u8>)> {
        let row = self.rows.get(key)?;
        if row.schema <= self.base { Some((row.schema, row.value.clone())) } else { row.image.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
