//! Going over all rows.

use super::{Key, Table, rows};
use crate::{Error, Result, state::State};
use replug_abi::{SCAN_END, ScannedRow};
use std::iter::FusedIterator;

/// The rows of a table, as [`Table::scan`] describes. Rows come from the host
/// in batches, as the iterator gets to them; it holds no lock in between.
pub struct Scan<K, V> {
    table: Table<K, V>,
    cursor: u64,
    batch: Vec<u8>,
    offset: usize,
}

impl<K: Key, V: State> Scan<K, V> {
    pub(super) fn new(table: Table<K, V>) -> Self {
        Scan { table, cursor: 0, batch: Vec::new(), offset: 0 }
    }

    fn row(&self, row: &ScannedRow<'_>) -> Result<(K, V)> {
        if let Some((code, message)) = row.failure() {
            return Err(Error::new(code.to_owned(), message));
        }
        let Some(key) = K::read_whole(row.key) else {
            let message = "the key is none of the table's type";
            return Err(self.table.row_error("table.corrupt", row.key, message));
        };
        let value =
            rows::value(row.schema, row.value).map_err(|error| self.table.bad_row(row.key, &error))?;
        Ok((key, value))
    }
}

impl<K: Key, V: State> Iterator for Scan<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset == self.batch.len() {
            if self.cursor == SCAN_END {
                return None;
            }
            self.offset = 0;
            match self.table.inner.host.scan(&mut self.cursor) {
                Ok(batch) => self.batch = batch,
                Err(error) => {
                    self.batch.clear();
                    self.cursor = SCAN_END;
                    return Some(Err(error));
                }
            }
        }
        let Some((row, rest)) = ScannedRow::read(&self.batch[self.offset..]) else {
            self.offset = self.batch.len();
            self.cursor = SCAN_END;
            let message =
                format!("table {:?}: the host's batch of rows ends within one", self.table.inner.name);
            return Some(Err(Error::new("table.corrupt", message)));
        };
        let item = self.row(&row);
        self.offset = self.batch.len() - rest.len();
        Some(item)
    }
}

impl<K: Key, V: State> FusedIterator for Scan<K, V> {}
