//! Going over all rows of a table as a version sees them, some at a time.
//!
//! A cursor is a place: it stays good whatever is written between two calls.

use crate::failure::Failure;
use crate::table::shards::{END, next_shard};
use crate::table::view::View;
use replug_abi::{SCAN_END, ScannedRow};

/// Bytes after which a call of [`View::scan`] returns.
const SCAN_BYTES: usize = 64 * 1024;
/// A scan's cursor is a place.
const _: () = assert!(END == SCAN_END);

impl View {
    /// Appends rows to `body` as [`ScannedRow`] has them, from `cursor` on, which
    /// is 0 at first and then what the call before returned; [`SCAN_END`] when
    /// there are no more. A call returns after some 64 KiB, or one row that is
    /// larger.
    ///
    /// A row that is there for the whole scan is seen exactly once, in a state
    /// that it had during the scan: rows are taken in the order of their places,
    /// which they keep. A row that this version cannot read says so in its place:
    /// see [`ScannedRow::failure`].
    #[must_use = "it is where the next call begins"]
    pub fn scan(&self, cursor: u64, body: &mut Vec<u8>) -> u64 {
        let full = body.len() + SCAN_BYTES;
        let mut at = cursor;
        while at != END && body.len() < full {
            at = self.scan_shard(at, full, body);
        }
        at
    }

    /// The rows of one shard that stand at `from` or behind it. Returns the place
    /// of the first row that is to come next.
    fn scan_shard(&self, from: u64, full: usize, body: &mut Vec<u8>) -> u64 {
        let shard = self.table.shards.read(from);
        let control = self.table.control();
        let mut rows: Vec<_> = shard.rows_from(from).map(|(place, row)| (place, row.clone())).collect();
        drop(shard);
        rows.sort_unstable_by_key(|(place, _)| *place);

        let mut last = None;
        for (place, row) in rows {
            // Two rows of one place stay together, as no cursor parts them.
            if body.len() >= full && last.is_some_and(|last| last < place) {
                return place;
            }
            last = Some(place);
            let Some(parts) = control.effective(row.parts()) else { continue };
            let (key, revision) = (parts.key, parts.revision);
            match self.readable(&parts) {
                Ok((schema, value)) => ScannedRow { key, value, schema, revision }.append_to(body),
                Err(error) => {
                    let (code, message) = (error.code().as_str(), error.to_string());
                    ScannedRow::append_failure(key, revision, code, &message, body);
                }
            }
        }
        next_shard(from)
    }
}
