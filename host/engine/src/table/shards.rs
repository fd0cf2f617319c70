//! Where rows stand: many small hash tables, each behind its own lock.
//!
//! A row's *place* is a hash of its key. Its upper bits name the shard, so that
//! going through the shards one by one, and through each by place, is one walk
//! over all rows in the order of their places, whatever is written meanwhile:
//! this is what makes a cursor of 8 bytes enough for a scan and a sweep. With
//! this many shards a lock covers few hundred rows of a million, and a hash
//! table that has to grow moves no more than those.
//!
//! Nothing of what rows mean is known here.

use crate::table::{block, row::Row};
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
use std::hash::{BuildHasher, RandomState};
use twox_hash::XxHash3_64;

/// Few in tests: they make many tables, and want shards with many rows.
const SHARD_BITS: u32 = if cfg!(test) { 6 } else { 12 };
/// Shards of a table; an empty one takes 64 bytes.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

/// A place behind all rows.
pub(super) const END: u64 = u64::MAX;

pub(super) struct Shards {
    /// Chosen by chance, so that nobody can aim keys at one shard.
    seed: u64,
    shards: Box<[RwLock<Shard>]>,
}

/// Some of the rows.
pub(super) struct Shard {
    rows: HashTable<Row>,
    /// The last revision that was given here.
    revision: u64,
    seed: u64,
}

impl Shards {
    pub(super) fn new() -> Self {
        block::prepare();
        let seed = RandomState::new().hash_one(SHARDS);
        let shard = || RwLock::new(Shard { rows: HashTable::new(), revision: 0, seed });
        Shards { seed, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// The place of a key; never [`END`].
    pub(super) fn place(&self, key: &[u8]) -> u64 {
        place(self.seed, key)
    }

    pub(super) fn read(&self, place: u64) -> RwLockReadGuard<'_, Shard> {
        self.shards[index(place)].read()
    }

    pub(super) fn write(&self, place: u64) -> RwLockWriteGuard<'_, Shard> {
        self.shards[index(place)].write()
    }

    /// None while anybody else has it.
    pub(super) fn try_write(&self, place: u64) -> Option<RwLockWriteGuard<'_, Shard>> {
        self.shards[index(place)].try_write()
    }

    /// Nobody else writes to it or is about to, and readers do not wait: for whoever has to
    /// look before he writes, or has to know that nobody does.
    pub(super) fn hold(&self, place: u64) -> RwLockUpgradableReadGuard<'_, Shard> {
        self.shards[index(place)].upgradable_read()
    }

    /// All shards at once. Everybody else takes one lock at a time.
    pub(super) fn write_all(&self) -> Vec<RwLockWriteGuard<'_, Shard>> {
        self.shards.iter().map(RwLock::write).collect()
    }

    /// Each shard, one at a time, [held](Self::hold).
    pub(super) fn iter(&self) -> impl Iterator<Item = RwLockUpgradableReadGuard<'_, Shard>> {
        self.shards.iter().map(RwLock::upgradable_read)
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        let rows = self.shards.iter_mut().map(|shard| shard.get_mut().take_all().len());
        if rows.sum::<usize>() > 0 {
            block::give_back();
        }
    }
}

impl Shard {
    pub(super) fn find(&self, place: u64, key: &[u8]) -> Option<&Row> {
        self.rows.find(spread(place), |row| row.key() == key)
    }

    /// Puts a row, and returns the one that it takes the place of.
    pub(super) fn put(&mut self, place: u64, new: Row) -> Option<Row> {
        if let Some(row) = self.rows.find_mut(spread(place), |row| row.key() == new.key()) {
            return Some(std::mem::replace(row, new));
        }
        let seed = self.seed;
        self.rows.insert_unique(spread(place), new, |row| spread(self::place(seed, row.key())));
        None
    }

    /// Where this very row stands, as long as nobody writes to the shard.
    pub(super) fn slot_of(&self, place: u64, row: &Row) -> Option<usize> {
        let slot = self.rows.find_bucket_index(spread(place), |other| other.key() == row.key())?;
        self.rows.get_bucket(slot).is_some_and(|other| other.is(row)).then_some(slot)
    }

    /// Puts a row in the place of the one in a slot, which has the same key; that.
    pub(super) fn replace(&mut self, slot: usize, new: Row) -> Option<Row> {
        self.rows.get_bucket_mut(slot).map(|row| std::mem::replace(row, new))
    }

    /// Takes a row out.
    pub(super) fn take(&mut self, place: u64, key: &[u8]) -> Option<Row> {
        let found = self.rows.find_entry(spread(place), |row| row.key() == key);
        found.ok().map(|entry| entry.remove().0)
    }

    /// Takes all rows out.
    pub(super) fn take_all(&mut self) -> HashTable<Row> {
        std::mem::take(&mut self.rows)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// The rows at this place and behind it, with their places, in no order.
    pub(super) fn rows_from(&self, from: u64) -> impl Iterator<Item = (u64, &Row)> {
        let placed = self.rows.iter().map(|row| (place(self.seed, row.key()), row));
        placed.filter(move |(place, _)| *place >= from)
    }

    /// A revision that no row of the shard had before.
    pub(super) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Gives none of these revisions again.
    pub(super) fn skip_revisions(&mut self, up_to: u64) {
        self.revision = self.revision.max(up_to);
    }
}

/// Where the shard behind the one of this place begins, or [`END`].
pub(super) fn next_shard(place: u64) -> u64 {
    let next = index(place) as u64 + 1;
    if next < SHARDS as u64 { next << (u64::BITS - SHARD_BITS) } else { END }
}

/// How many shards lie before this place.
pub(super) fn shards_before(place: u64) -> usize {
    if place == END { SHARDS } else { index(place) }
}

fn index(place: u64) -> usize {
    (place >> (u64::BITS - SHARD_BITS)) as usize
}

fn place(seed: u64, key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, key).min(END - 1)
}

/// The hash within a shard. The table takes the highest bits and the lowest
/// ones, and the bits that all rows of a shard share are to be neither.
fn spread(place: u64) -> u64 {
    place.rotate_left(u64::BITS / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::row::RowRef;

    fn row(key: &[u8], revision: u64) -> Row {
        Row::new(&RowRef { key, value: b"", schema: 1, generation: 1, revision, image: None })
    }

    #[test]
    fn the_shards_hold_all_places_in_order() {
        let (mut place, mut steps) = (0, 0);
        while place != END {
            assert_eq!(shards_before(place), steps);
            let next = next_shard(place);
            assert!(next > place);
            (place, steps) = (next, steps + 1);
        }
        assert_eq!((steps, shards_before(END)), (SHARDS, SHARDS));
        assert_eq!(next_shard(END - 1), END);
    }

    #[test]
    fn keys_are_spread_evenly_and_found_again() {
        let shards = Shards::new();
        let keys: Vec<[u8; 8]> = (0_u64..10_000).map(u64::to_be_bytes).collect();
        for key in &keys {
            let place = shards.place(key);
            assert!(shards.write(place).put(place, row(key, 1)).is_none());
        }
        let sizes: Vec<usize> = shards.iter().map(|shard| shard.rows().count()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), keys.len());
        let expected = keys.len() / SHARDS;
        assert!(sizes.iter().all(|size| (expected / 2..expected * 2).contains(size)), "{sizes:?}");
        for key in &keys {
            let place = shards.place(key);
            let old = shards.write(place).put(place, row(key, 2)).expect("it is there");
            assert_eq!(old.parts().revision, 1);
            let seen: Vec<u64> = shards.read(place).rows_from(place).map(|(place, _)| place).collect();
            assert!(seen.contains(&place) && seen.iter().all(|seen| *seen >= place));
            assert!(shards.write(place).take(place, key).is_some());
            assert!(shards.read(place).find(place, key).is_none());
        }
    }
}
