//! How large a table is, counted as it changes, and kept within its limits.

use crate::table::control::Limits;
use crate::table::row::Row;
use replug_abi::TableSize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Rows and bytes. Relaxed throughout: the counters say how many, and no memory
/// is reached through them.
#[derive(Debug, Default)]
pub(super) struct Usage {
    rows: AtomicU64,
    /// Without images.
    bytes: AtomicU64,
    image_bytes: AtomicU64,
}

/// Which limit a write would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Rows,
    Bytes,
}

impl Usage {
    pub(super) fn size(&self) -> TableSize {
        let bytes = self.bytes.load(Relaxed) + self.image_bytes.load(Relaxed);
        TableSize { rows: self.rows.load(Relaxed), bytes }
    }

    /// Counts `new` instead of `old`, or nothing if there is no room for it.
    /// What does not grow always has room, and images do: that a version is
    /// tried must not make writes fail.
    pub(super) fn exchange(&self, old: Option<&Row>, new: Option<&Row>, limits: Limits) -> Result<(), Full> {
        let (rows_before, rows_now) = (u64::from(old.is_some()), u64::from(new.is_some()));
        let images = [old, new].map(|row| row.map_or(0, Row::image_bytes));
        let [bytes_before, bytes_now] =
            [old, new].map(|row| row.map_or(0, |row| row.cost() - row.image_bytes()));
        if !replace(&self.rows, rows_before, rows_now, limits.rows_max) {
            return Err(Full::Rows);
        }
        if !replace(&self.bytes, bytes_before, bytes_now, limits.bytes_max) {
            replace(&self.rows, rows_now, rows_before, u64::MAX);
            return Err(Full::Bytes);
        }
        let [images_before, images_now] = images;
        replace(&self.image_bytes, images_before, images_now, u64::MAX);
        Ok(())
    }

    /// Counts no rows. The caller has locked out everybody else.
    pub(super) fn reset(&self) {
        self.rows.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.image_bytes.store(0, Relaxed);
    }
}

fn replace(count: &AtomicU64, before: u64, now: u64, max: u64) -> bool {
    if now <= before {
        if now < before {
            count.fetch_sub(before - now, Relaxed);
        }
        return true;
    }
    let grown = |count: u64| count.checked_add(now - before).filter(|grown| *grown <= max);
    count.fetch_update(Relaxed, Relaxed, grown).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::row::{Image, ROW_OVERHEAD_BYTES, RowRef};

    fn row(value: &[u8]) -> Row {
        Row::new(&RowRef { key: b"k", value, schema: 1, generation: 1, revision: 1, image: None })
    }

    #[test]
    fn growth_stops_at_the_limits_and_nothing_else_does() {
        let usage = Usage::default();
        let (small, large) = (row(b""), row(b"12345"));
        let limits = Limits { rows_max: 1, bytes_max: ROW_OVERHEAD_BYTES + 4 };
        assert_eq!(usage.exchange(None, Some(&small), limits), Ok(()));
        assert_eq!(usage.exchange(None, Some(&small), limits), Err(Full::Rows));
        assert_eq!(usage.exchange(Some(&small), Some(&large), limits), Err(Full::Bytes));
        assert_eq!(usage.exchange(Some(&small), Some(&large), Limits::NONE), Ok(()));
        assert_eq!(usage.exchange(Some(&large), Some(&large), limits), Ok(()), "it does not grow");
        assert_eq!(usage.size(), TableSize { rows: 1, bytes: large.cost() });
        assert_eq!(usage.exchange(Some(&large), None, limits), Ok(()));
        assert_eq!(usage.size(), TableSize::default());
    }

    #[test]
    fn images_are_counted_and_bound_by_no_limit() {
        let usage = Usage::default();
        let image = Image { schema: 1, bytes: b"12345", fresh: true };
        let parts = RowRef { key: b"k", value: b"v", schema: 2, generation: 1, revision: 1, image: None };
        let (without, with) = (Row::new(&parts), Row::new(&RowRef { image: Some(image), ..parts }));
        let limits = Limits { rows_max: 1, bytes_max: ROW_OVERHEAD_BYTES + 2 };
        assert_eq!(usage.exchange(None, Some(&without), limits), Ok(()));
        assert_eq!(usage.exchange(Some(&without), Some(&with), limits), Ok(()));
        assert_eq!(usage.size(), TableSize { rows: 1, bytes: ROW_OVERHEAD_BYTES + 7 });
        assert_eq!(usage.exchange(Some(&with), None, limits), Ok(()));
        assert_eq!(usage.size(), TableSize::default());
    }

    #[test]
    fn a_row_without_room_for_its_bytes_is_not_counted_as_a_row() {
        let usage = Usage::default();
        let limits = Limits { rows_max: 1, bytes_max: ROW_OVERHEAD_BYTES };
        assert_eq!(usage.exchange(None, Some(&row(b"")), limits), Err(Full::Bytes));
        assert_eq!(usage.size(), TableSize::default());
    }
}
