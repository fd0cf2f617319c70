//! How large a table is, counted as it changes, and kept within its limits.

use crate::table::control::Limits;
use crate::table::row::Row;
use replug_abi::TableSize;
use std::iter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Rows and bytes. Relaxed throughout: the counters say how many, and no memory
/// is reached through them.
#[derive(Debug, Default)]
pub(super) struct Usage {
    rows: AtomicU64,
    /// Without images.
    bytes: AtomicU64,
    image_bytes: AtomicU64,
    schemas: Schemas,
}

/// How many values and images have which schema. Those of a table are few: each
/// that it ever had keeps a link of a chain, which grows at its end.
#[derive(Debug, Default)]
struct Schemas(OnceLock<Box<Schema>>);

#[derive(Debug)]
struct Schema {
    schema: u32,
    values: AtomicU64,
    images: AtomicU64,
    next: Schemas,
}

impl Schemas {
    fn of(&self, schema: u32) -> &Schema {
        let mut at = self;
        loop {
            let found = at.0.get_or_init(|| Box::new(Schema::new(schema)));
            if found.schema == schema {
                return found;
            }
            at = &found.next;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Schema> {
        iter::successors(self.0.get(), |known| known.next.0.get()).map(Box::as_ref)
    }

    /// Counts a row; of most writes only the bytes change.
    fn exchange(&self, old: Option<&Row>, new: Option<&Row>) {
        let [before, now] = [old, new].map(|row| row.map(Row::schemas));
        if before == now {
            return;
        }
        let count = |row: Option<(u32, Option<u32>)>, change: fn(&AtomicU64) -> u64| {
            let Some((value, image)) = row else { return };
            change(&self.of(value).values);
            if let Some(image) = image {
                change(&self.of(image).images);
            }
        };
        count(now, |number| number.fetch_add(1, Relaxed));
        count(before, |number| number.fetch_sub(1, Relaxed));
    }
}

impl Schema {
    fn new(schema: u32) -> Schema {
        Schema { schema, values: AtomicU64::new(0), images: AtomicU64::new(0), next: Schemas::default() }
    }
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

    /// The schemas that values have, with those of images if they count too, in
    /// order. Exact when nobody writes.
    pub(super) fn schemas(&self, with_images: bool) -> Vec<u32> {
        let is_there = |known: &&Schema| {
            known.values.load(Relaxed) > 0 || (with_images && known.images.load(Relaxed) > 0)
        };
        let mut there: Vec<u32> = self.schemas.iter().filter(is_there).map(|known| known.schema).collect();
        there.sort_unstable();
        there
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
        self.schemas.exchange(old, new);
        Ok(())
    }

    /// Counts no rows. The caller has locked out everybody else.
    pub(super) fn reset(&self) {
        self.rows.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.image_bytes.store(0, Relaxed);
        for known in self.schemas.iter() {
            known.values.store(0, Relaxed);
            known.images.store(0, Relaxed);
        }
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

    #[test]
    fn schemas_are_those_of_the_rows_that_are_there() {
        let of = |schema, image: u32| {
            let image = (image != 0).then_some(Image { schema: image, bytes: b"i", fresh: true });
            Row::new(&RowRef { key: b"k", value: b"v", schema, generation: 1, revision: 1, image })
        };
        let (usage, old, new) = (Usage::default(), of(1, 0), of(3, 2));
        let exchange = |old, new| usage.exchange(old, new, Limits::NONE).expect("there is room");
        exchange(None, Some(&new));
        exchange(None, Some(&old));
        exchange(None, Some(&old));
        assert_eq!((usage.schemas(false), usage.schemas(true)), (vec![1, 3], vec![1, 2, 3]));
        exchange(Some(&old), Some(&new));
        assert_eq!(usage.schemas(false), [1, 3]);
        exchange(Some(&old), None);
        assert_eq!(usage.schemas(false), [3]);
        exchange(Some(&new), Some(&of(3, 0)));
        assert_eq!(usage.schemas(true), [2, 3]);
        usage.reset();
        assert!(usage.schemas(true).is_empty());
    }
}
