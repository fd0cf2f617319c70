//! The bytes of a store: keys and records, as they lie in the database.
//!
//! This is a contract: stores of earlier releases are read by later ones. A
//! record begins with its format version and ends with a checksum over its key
//! and itself; whatever is not exactly as described here is damage, and is never
//! guessed at. Numbers are little-endian but for those in keys, whose order
//! matters.
//!
//! ```text
//! key                               record
//! 00                                head    01 commit:u64 rows:u64 digest:u64 next_space:u64 sum:u32
//! 01 name                           table   01 space:u64 base:u32 downgrade_to:u32 generation:u32 newest:u32
//!                                              partial:u8 voids:u32 (first:u32 last:u32 above:u32)* sum:u32
//! 02 space:u64 (big-endian) key     row     01 image:u8 schema:u32 generation:u32 revision:u64
//!                                              value_bytes:u32 [image_schema:u32] value image sum:u32
//! ```
//!
//! `image` is 0 without one, 1 for a fresh one, 2 for a stale one. A *space*
//! holds the rows of one table since it was last cleared; its number is never
//! used again, so that clearing a table is one small record. `sum` is the low
//! half of XXH3-64 of the record up to there, seeded with XXH3-64 of the plain
//! key: a table's name, a row's key without `02` and space. `digest` is the wrapping sum of
//! the [shares](share) of all tables and of all rows in the space of a table:
//! a set of rows that lacks one, or has an older one, has another digest.

use crate::table::{Image, Record, RowRef, Void};
use twox_hash::XxHash3_64;

/// The format of all records.
const VERSION: u8 = 1;

/// The key of the head.
pub(super) const HEAD_KEY: &[u8] = &[0];
const TABLE: u8 = 1;
const ROW: u8 = 2;
const SPACE_BYTES: usize = 8;
const SUM_BYTES: usize = 4;

const NO_IMAGE: u8 = 0;
const FRESH_IMAGE: u8 = 1;
const STALE_IMAGE: u8 = 2;

/// What a store knows of its whole content; written with each commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// Commits so far.
    pub(super) commit: u64,
    /// Rows that are in the space of a table.
    pub(super) rows: u64,
    /// The sum of the shares.
    pub(super) digest: u64,
    /// The next space to be given.
    pub(super) next_space: u64,
}

impl Head {
    /// A space that no table had before.
    pub(super) fn give_space(&mut self) -> u64 {
        let space = self.next_space;
        self.next_space += 1;
        space
    }
}

/// A table, and the space that its rows are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableRecord {
    pub(super) space: u64,
    pub(super) record: Record,
}

/// What a key of the database says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Head,
    Table { name: &'a str },
    Row { space: u64, key: &'a [u8] },
}

impl<'a> Key<'a> {
    /// `None` if no store makes such a key.
    pub(super) fn parse(key: &'a [u8]) -> Option<Key<'a>> {
        let (kind, rest) = key.split_first()?;
        match *kind {
            0 if rest.is_empty() => Some(Key::Head),
            TABLE => Some(Key::Table { name: std::str::from_utf8(rest).ok()? }),
            ROW => {
                let (space, key) = rest.split_first_chunk::<SPACE_BYTES>()?;
                Some(Key::Row { space: u64::from_be_bytes(*space), key })
            }
            _ => None,
        }
    }
}

pub(super) fn table_key(name: &str) -> Vec<u8> {
    [&[TABLE], name.as_bytes()].concat()
}

pub(super) fn row_key(space: u64, key: &[u8]) -> Vec<u8> {
    [&[ROW], &space.to_be_bytes()[..], key].concat()
}

/// What the keys of all rows of a space begin with.
pub(super) fn space_prefix(space: u64) -> Vec<u8> {
    row_key(space, &[])
}

/// What a row, or a table, adds to the digest of the head.
pub(super) fn share(space: u64, sum: u32) -> u64 {
    // The mixer of SplitMix64: sums that differ in a bit are far apart.
    let mut x = space.rotate_left(32) ^ u64::from(sum) ^ 0x9e37_79b9_7f4a_7c15;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The checksum at the end of a record that [`encode_row`] or its like made.
pub(super) fn sum_of(record: &[u8]) -> u32 {
    record.last_chunk().map_or(0, |sum| u32::from_le_bytes(*sum))
}

pub(super) fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 4 * 8 + SUM_BYTES);
    out.push(VERSION);
    for number in [head.commit, head.rows, head.digest, head.next_space] {
        out.extend(number.to_le_bytes());
    }
    close(HEAD_KEY, out)
}

pub(super) fn decode_head(record: &[u8]) -> Option<Head> {
    let mut body = open(HEAD_KEY, record)?;
    let head = Head { commit: body.u64()?, rows: body.u64()?, digest: body.u64()?, next_space: body.u64()? };
    body.end()?;
    Some(head)
}

pub(super) fn encode_table(name: &str, table: &TableRecord) -> Vec<u8> {
    let Record { base, downgrade_to, generation, newest, ref voids, partial } = table.record;
    let mut out = Vec::with_capacity(64);
    out.push(VERSION);
    out.extend(table.space.to_le_bytes());
    for number in [base, downgrade_to, generation, newest] {
        out.extend(number.to_le_bytes());
    }
    out.push(u8::from(partial));
    // The voids are joined as they are made: a handful at most.
    out.extend((voids.len() as u32).to_le_bytes());
    for number in voids.iter().flat_map(|void| [void.first, void.last, void.above]) {
        out.extend(number.to_le_bytes());
    }
    close(name.as_bytes(), out)
}

pub(super) fn decode_table(name: &str, record: &[u8]) -> Option<TableRecord> {
    let mut body = open(name.as_bytes(), record)?;
    let space = body.u64()?;
    let (base, downgrade_to) = (body.u32()?, body.u32()?);
    let (generation, newest) = (body.u32()?, body.u32()?);
    let partial = match body.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let voids = body.u32()?;
    let voids = (0..voids)
        .map(|_| Some(Void { first: body.u32()?, last: body.u32()?, above: body.u32()? }))
        .collect::<Option<Vec<_>>>()?;
    body.end()?;
    Some(TableRecord { space, record: Record { base, downgrade_to, generation, newest, voids, partial } })
}

pub(super) fn encode_row(row: &RowRef<'_>) -> Vec<u8> {
    let image_bytes = row.image.map_or(0, |image| 4 + image.bytes.len());
    let mut out = Vec::with_capacity(1 + 1 + 4 + 4 + 8 + 4 + row.value.len() + image_bytes + SUM_BYTES);
    out.push(VERSION);
    out.push(match row.image {
        None => NO_IMAGE,
        Some(Image { fresh: true, .. }) => FRESH_IMAGE,
        Some(Image { fresh: false, .. }) => STALE_IMAGE,
    });
    out.extend(row.schema.to_le_bytes());
    out.extend(row.generation.to_le_bytes());
    out.extend(row.revision.to_le_bytes());
    // Far below 4 GiB, by the limits of tables.
    out.extend((row.value.len() as u32).to_le_bytes());
    out.extend(row.image.iter().flat_map(|image| image.schema.to_le_bytes()));
    out.extend(row.value);
    out.extend(row.image.iter().flat_map(|image| image.bytes));
    close(row.key, out)
}

pub(super) fn decode_row<'a>(key: &'a [u8], record: &'a [u8]) -> Option<RowRef<'a>> {
    let mut body = open(key, record)?;
    let fresh = match body.u8()? {
        NO_IMAGE => None,
        FRESH_IMAGE => Some(true),
        STALE_IMAGE => Some(false),
        _ => return None,
    };
    let (schema, generation, revision) = (body.u32()?, body.u32()?, body.u64()?);
    let value_bytes = body.u32()?;
    let image = match fresh {
        Some(fresh) => Some((fresh, body.u32()?)),
        None => None,
    };
    let value = body.bytes(value_bytes as usize)?;
    let image = image.map(|(fresh, schema)| Image { schema, bytes: body.rest(), fresh });
    body.end()?;
    Some(RowRef { key, value, schema, generation, revision, image })
}

/// Ends a record with its checksum.
fn close(key: &[u8], mut body: Vec<u8>) -> Vec<u8> {
    body.extend(sum(key, &body).to_le_bytes());
    body
}

/// Checks version and checksum; what lies between is returned.
fn open<'a>(key: &[u8], record: &'a [u8]) -> Option<Body<'a>> {
    let (body, stored) = record.split_last_chunk::<SUM_BYTES>()?;
    if sum(key, body) != u32::from_le_bytes(*stored) {
        return None;
    }
    let mut body = Body(body);
    (body.u8()? == VERSION).then_some(body)
}

fn sum(key: &[u8], body: &[u8]) -> u32 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key), body) as u32
}

/// What is still to be read of a record.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
