//! The buckets of all clients, shared by the threads that call.
//!
//! Keys are spread over shards with a lock each. A take is one critical section
//! of one shard; a copy of everything holds all locks at once, so that no take
//! is half in it. All instances give what they keep in the same order, since a
//! host does not save again what is the same to the byte.

use crate::bucket::{Bucket, Filling, Rate};
use indexmap::IndexMap;
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// Enough that threads seldom meet on a machine of today.
const SHARDS: usize = 16;

/// Buckets by key.
pub struct Buckets<K> {
    rate: Rate,
    keys_max: usize,
    /// Keys in all shards. Relaxed throughout: it orders nothing, and the keys
    /// themselves are behind locks.
    keys: AtomicUsize,
    shards: [Mutex<Shard<K>>; SHARDS],
    /// The same in every instance, as it is part of the order. Who knows it can
    /// have keys meet at a lock, but not in a map.
    spread: BuildHasherDefault<DefaultHasher>,
}

/// In the order in which the keys came.
type Shard<K> = IndexMap<K, Filling>;

/// The answer to a take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// Whether there were tokens enough.
    pub allowed: bool,
    /// Tokens left.
    pub remaining: f64,
    /// Takes of this key that were allowed, ever.
    pub taken: u64,
}

/// Sums over all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Number of keys.
    pub keys: u64,
    /// Takes that were allowed, ever.
    pub taken: u64,
}

/// There are as many keys as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<K: Eq + Hash + Clone> Buckets<K> {
    /// No buckets yet; each begins full. `keys_max` keys are accepted.
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        Buckets {
            rate,
            keys_max,
            keys: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            spread: BuildHasherDefault::default(),
        }
    }

    /// Takes `cost` tokens from the bucket of `key`, which is made if it is new.
    ///
    /// # Errors
    /// [`Full`] when the key is new and there is no room for another.
    pub fn take(&self, key: K, cost: f64, now: Instant) -> Result<Taken, Full> {
        let mut shard = self.shard(&key);
        if !shard.contains_key(&key) {
            self.count_new_key()?;
        }
        let filling = shard.entry(key).or_insert_with(|| Filling::new(Bucket::full(&self.rate), now));
        let allowed = filling.take(&self.rate, cost, now);
        Ok(Taken { allowed, remaining: filling.bucket.level, taken: filling.bucket.taken })
    }

    /// Takes of `key` that were allowed, ever.
    pub fn count(&self, key: &K) -> u64 {
        self.shard(key).get(key).map_or(0, |filling| filling.bucket.taken)
    }

    /// Sums over all keys, of one moment.
    pub fn totals(&self) -> Totals {
        let shards = self.lock_all();
        let buckets = shards.iter().flat_map(|shard| shard.values());
        buckets.fold(Totals { keys: 0, taken: 0 }, |sum, filling| Totals {
            keys: sum.keys + 1,
            taken: sum.taken + filling.bucket.taken,
        })
    }

    /// All buckets, of one moment, in the order in which another instance gives them
    /// that took them over.
    pub fn copy(&self) -> Vec<(K, Bucket)> {
        let shards = self.lock_all();
        let mut all = Vec::with_capacity(shards.iter().map(|shard| shard.len()).sum());
        for shard in &shards {
            all.extend(shard.iter().map(|(key, filling)| (key.clone(), filling.bucket)));
        }
        all
    }

    /// These buckets and no others, even if they are more than a new key would
    /// be accepted beside: what was counted is never dropped.
    pub fn replace(&mut self, buckets: impl IntoIterator<Item = (K, Bucket)>, now: Instant) {
        for shard in &mut self.shards {
            shard.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let (mut keys, buckets) = (0, buckets.into_iter());
        // Where all of them go is not known yet, but they spread evenly.
        let each = buckets.size_hint().0 / SHARDS;
        for shard in &mut self.shards {
            shard.get_mut().unwrap_or_else(PoisonError::into_inner).reserve(each + each / 8);
        }
        for (key, bucket) in buckets {
            let shard = &mut self.shards[self.spread.hash_one(&key) as usize % SHARDS];
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            let old = shard.insert(key, Filling::new(bucket, now));
            keys += usize::from(old.is_none());
        }
        *self.keys.get_mut() = keys;
    }

    fn count_new_key(&self) -> Result<(), Full> {
        self.keys
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |keys| {
                (keys < self.keys_max).then_some(keys + 1)
            })
            .map(drop)
            .map_err(|_| Full)
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        lock(&self.shards[self.spread.hash_one(key) as usize % SHARDS])
    }

    /// In the order of the array, as everywhere, so that two of them cannot
    /// wait for each other.
    fn lock_all(&self) -> Vec<MutexGuard<'_, Shard<K>>> {
        self.shards.iter().map(lock).collect()
    }
}

/// Nothing that could panic half-way runs under the lock.
fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const RATE: Rate = Rate { capacity: 1e9, refill_per_s: 0.0 };

    #[test]
    fn no_take_is_lost_between_threads_and_a_copy_beside_them() {
        const THREADS: u64 = 4;
        const TAKES: u64 = 5_000;
        let buckets = Buckets::new(RATE, 100);
        let now = Instant::now();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for take in 0..TAKES {
                        let taken = buckets.take(take % 7, 1.0, now).expect("room");
                        assert!(taken.allowed);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..50 {
                    let copied: u64 = buckets.copy().iter().map(|(_, bucket)| bucket.taken).sum();
                    assert!(copied <= THREADS * TAKES);
                }
            });
        });
        let totals = buckets.totals();
        assert_eq!((totals.keys, totals.taken), (7, THREADS * TAKES));
        assert_eq!((0..7).map(|key| buckets.count(&key)).sum::<u64>(), totals.taken);
    }

    #[test]
    fn a_copy_replaces_what_another_had() {
        let now = Instant::now();
        let from = Buckets::new(RATE, 10);
        for key in ["a", "a", "b"] {
            from.take(key, 2.0, now).expect("room");
        }
        let mut into = Buckets::new(RATE, 10);
        into.take("old", 1.0, now).expect("room");
        into.replace(from.copy(), now);
        assert_eq!((into.count(&"a"), into.count(&"old")), (2, 0));
        let taken = into.take("a", 1.0, now).expect("room");
        assert_eq!(taken.remaining, RATE.capacity - 5.0);
    }

    /// Once, it was the order of a hash map, another one in every instance.
    #[test]
    fn a_copy_has_the_order_that_it_has_again_when_it_was_handed_on() {
        let now = Instant::now();
        let from = Buckets::new(RATE, 1_000);
        for key in (0..100).chain(40..60).rev() {
            from.take(key, 1.0, now).expect("room");
        }
        let mut into = Buckets::new(RATE, 1_000);
        into.replace(from.copy(), now);
        assert_eq!(into.copy(), from.copy());
        for buckets in [&from, &into] {
            buckets.take(7, 1.0, now).expect("is known");
            buckets.take(100, 1.0, now).expect("room");
        }
        assert_eq!(into.copy(), from.copy());
    }

    #[test]
    fn a_new_key_beyond_the_limit_is_refused_and_a_known_one_served() {
        let now = Instant::now();
        let mut buckets = Buckets::new(RATE, 2);
        for key in ["a", "b"] {
            buckets.take(key, 1.0, now).expect("room for two");
        }
        assert_eq!(buckets.take("c", 1.0, now), Err(Full));
        assert!(buckets.take("a", 1.0, now).is_ok());
        // What is handed over is kept, and counts.
        let bucket = Bucket::full(&RATE);
        buckets.replace(["c", "d", "e"].map(|key| (key, bucket)), now);
        assert_eq!(buckets.totals().keys, 3);
        assert_eq!(buckets.take("a", 1.0, now), Err(Full));
    }

    #[test]
    fn a_refused_take_is_not_counted() {
        let now = Instant::now();
        let buckets = Buckets::new(RATE, 10);
        let taken = buckets.take("a", 2e9, now).expect("room");
        assert!(!taken.allowed);
        assert_eq!(buckets.count(&"a"), 0);
    }
}
