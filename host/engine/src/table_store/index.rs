//! Which rows a table has in the store, by hash and checksum: what is needed to
//! keep the digest, without reading the row that a change replaces.
//!
//! 16 bytes a row, in parts that grow one at a time, so that no write waits for
//! a million entries to be moved. It lives as long as the process.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use twox_hash::XxHash3_64;

const PARTS: usize = 256;

/// The rows of one table.
pub(super) struct Index {
    parts: Vec<HashTable<Slot>>,
    /// Random, so that nobody can choose keys that collide.
    seeds: [u64; 2],
}

/// A row: 96 bits of hash, so that two keys never share a slot, and its checksum.
struct Slot {
    hash: u64,
    more: u32,
    sum: u32,
}

impl Index {
    pub(super) fn new() -> Index {
        let random = RandomState::new();
        Index { parts: Vec::new(), seeds: [random.hash_one(0), random.hash_one(1)] }
    }

    /// The row has this checksum now. Returns the one that it had.
    pub(super) fn put(&mut self, key: &[u8], sum: u32) -> Option<u32> {
        let (hash, more) = self.hash(key);
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let part = &mut self.parts[part(hash)];
        if let Some(slot) = part.find_mut(hash, |slot| slot.hash == hash && slot.more == more) {
            return Some(std::mem::replace(&mut slot.sum, sum));
        }
        part.insert_unique(hash, Slot { hash, more, sum }, |slot| slot.hash);
        None
    }

    /// There is no such row any more. Returns the checksum that it had.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<u32> {
        let (hash, more) = self.hash(key);
        let part = self.parts.get_mut(part(hash))?;
        let slot = part.find_entry(hash, |slot| slot.hash == hash && slot.more == more).ok()?;
        Some(slot.remove().0.sum)
    }

    fn hash(&self, key: &[u8]) -> (u64, u32) {
        let [hash, more] = self.seeds.map(|seed| XxHash3_64::oneshot_with_seed(seed, key));
        (hash, more as u32)
    }
}

/// By bits in the middle: a hash table uses the lowest and the highest.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_index_knows_what_a_map_knows() {
        let (mut index, mut map) = (Index::new(), BTreeMap::new());
        assert_eq!(index.remove(b"none"), None);
        for step in 0..20_000_u32 {
            let key = (step.wrapping_mul(2_654_435_761) % 5_000).to_le_bytes();
            if step % 3 == 0 {
                assert_eq!(index.remove(&key), map.remove(&key));
            } else {
                assert_eq!(index.put(&key, step), map.insert(key, step));
            }
        }
        for (key, sum) in map {
            assert_eq!(index.remove(&key), Some(sum));
        }
        assert!(index.parts.iter().all(HashTable::is_empty));
    }
}
