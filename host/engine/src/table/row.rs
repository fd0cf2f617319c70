//! One row: a record that never changes, in one allocation.
//!
//! A write makes a new row and puts it in the place of the old one. Whoever
//! holds a row, a scan or a sweep, keeps it whole without a lock, and can tell
//! later by its address whether it still stands in the table. Nothing here
//! knows which rows count: that is what the control says.

use crate::table::block::{self, Address, Block};

/// What a table counts for a row beside the bytes of its key, value and image:
/// about what the row's header, its allocation and its slot take.
pub const ROW_OVERHEAD_BYTES: u64 = 64;

/// A row, seen in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value, in the schema of the version that wrote it.
    pub value: &'a [u8],
    /// The value's schema.
    pub schema: u32,
    /// The generation of the version that wrote it.
    pub generation: u32,
    /// Changes with every write by a plugin, and not when the host tidies up.
    pub revision: u64,
    /// What older versions read instead of the value.
    pub image: Option<Image<'a>>,
}

/// A value as an older version reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// The schema of the bytes; lower than the value's.
    pub schema: u32,
    /// The value in that schema.
    pub bytes: &'a [u8],
    /// Whether it says what the value says. If not it is from before a write
    /// that could not make one, and going back to it is a loss.
    pub fresh: bool,
}

impl<'a> RowRef<'a> {
    /// The row as it is if its value does not count and its image does.
    pub(super) fn fall_back(self, image: Image<'a>) -> RowRef<'a> {
        RowRef { value: image.bytes, schema: image.schema, image: None, ..self }
    }

    /// The bytes that a version of schema `reader` is given, and their schema.
    pub(super) fn readable(&self, reader: u32) -> Option<(u32, &'a [u8])> {
        if self.schema <= reader {
            return Some((self.schema, self.value));
        }
        let image = self.image.filter(|image| image.schema <= reader)?;
        Some((image.schema, image.bytes))
    }
}

/// A row as it stands in a table.
#[derive(Debug, Clone)]
pub(super) struct Row(Block<Header>);

/// What stands before the bytes of key, value and image.
#[derive(Debug, Clone, Copy)]
struct Header {
    revision: u64,
    schema: u32,
    generation: u32,
    key_len: u32,
    value_len: u32,
    /// [`NO_IMAGE`] if there is none.
    image_schema: u32,
    image_fresh: bool,
}

/// No version has it.
const NO_IMAGE: u32 = 0;

impl Row {
    pub(super) fn new(parts: &RowRef<'_>) -> Self {
        let image = parts.image.map_or(&[][..], |image| image.bytes);
        let header = Header {
            revision: parts.revision,
            schema: parts.schema,
            generation: parts.generation,
            // The limits of keys and values are far below 4 GiB.
            key_len: parts.key.len() as u32,
            value_len: parts.value.len() as u32,
            image_schema: parts.image.map_or(NO_IMAGE, |image| image.schema),
            image_fresh: parts.image.is_some_and(|image| image.fresh),
        };
        Row(Block::new(header, &[parts.key, parts.value, image]))
    }

    /// Gives a row that nobody else has yet its revision.
    pub(super) fn set_revision(&mut self, revision: u64) {
        if let Some(header) = self.0.header_mut() {
            header.revision = revision;
        }
    }

    pub(super) fn address(&self) -> Address {
        self.0.address()
    }

    /// Has what stands before the bytes of a row on its way into the cache.
    pub(super) fn prefetch(address: Address) {
        block::prefetch::<Header>(address);
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0.bytes()[..self.header().key_len as usize]
    }

    pub(super) fn parts(&self) -> RowRef<'_> {
        let header = self.header();
        let (key, rest) = self.0.bytes().split_at(header.key_len as usize);
        let (value, image) = rest.split_at(header.value_len as usize);
        let image = (header.image_schema != NO_IMAGE).then_some(Image {
            schema: header.image_schema,
            bytes: image,
            fresh: header.image_fresh,
        });
        let Header { schema, generation, revision, .. } = *header;
        RowRef { key, value, schema, generation, revision, image }
    }

    /// Bytes that a table counts for the row.
    pub(super) fn cost(&self) -> u64 {
        ROW_OVERHEAD_BYTES + self.0.bytes().len() as u64
    }

    /// The part of that which its image takes.
    pub(super) fn image_bytes(&self) -> u64 {
        let header = self.header();
        // The lengths were those of slices: see above.
        (self.0.bytes().len() - header.key_len as usize - header.value_len as usize) as u64
    }

    /// The schemas of its value and of its image.
    pub(super) fn schemas(&self) -> (u32, Option<u32>) {
        let header = self.header();
        (header.schema, (header.image_schema != NO_IMAGE).then_some(header.image_schema))
    }

    /// Whether both are the very same record.
    pub(super) fn is(&self, other: &Row) -> bool {
        self.0.is(&other.0)
    }

    fn header(&self) -> &Header {
        self.0.header()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_the_parts_that_it_was_made_of() {
        let image = Image { schema: 1, bytes: b"old", fresh: true };
        let whole = RowRef {
            key: b"key",
            value: b"value",
            schema: 2,
            generation: 7,
            revision: 9,
            image: Some(image),
        };
        let empty = RowRef { key: b"", value: b"", image: None, ..whole };
        let emptied = RowRef { image: Some(Image { bytes: b"", fresh: false, ..image }), ..empty };
        for parts in [whole, empty, emptied] {
            let mut row = Row::new(&RowRef { revision: 0, ..parts });
            row.set_revision(9);
            assert_eq!(row.parts(), parts);
            assert_eq!(row.key(), parts.key);
        }
        assert_eq!(Row::new(&whole).cost(), ROW_OVERHEAD_BYTES + 11);
    }

    #[test]
    fn only_the_same_record_is_the_same() {
        let parts = RowRef { key: b"k", value: b"v", schema: 1, generation: 1, revision: 1, image: None };
        let row = Row::new(&parts);
        assert!(row.is(&row.clone()));
        assert!(!row.is(&Row::new(&parts)));
    }
}
