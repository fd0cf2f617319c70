//! Threads at once. Each test checks a sum or a set that one lost or doubled
//! write would change.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const KEYS: u64 = 40;

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// The counter in a value of schema 8 or 9, which are counters of 8 bytes and,
/// in schema 9, one more byte.
fn count(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().expect("8 bytes at least"))
}

fn add_one(version: &Version, key: &[u8]) {
    loop {
        let (revision, value) = version.get(key).expect("a row for it").expect("it is there");
        let more = (count(&value) + 1).to_be_bytes();
        let value = converted(&more, version.schema());
        if let WriteOutcome::Written(_) = version.put_if(key, &value, revision).expect("room") {
            return;
        }
    }
}

#[test]
fn two_versions_that_count_in_the_same_rows_lose_no_count_while_a_sweep_and_a_rollback_run() {
    const ROUNDS: u64 = 3_000;
    let table = Table::new("rows", Limits::NONE);
    let old = Version::start(&table, 8, true);
    table.commit(8).expect("no journal");
    for n in 0..KEYS {
        old.put(&key(n), &0_u64.to_be_bytes()).expect("room");
    }
    let new = Version::start(&table, 9, true);
    let counting = |version: &Version| (0..ROUNDS).for_each(|round| add_one(version, &key(round % KEYS)));
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let sweeping = threads.spawn(|| {
            while !done.load(Relaxed) {
                assert!(old.sweep().complete);
            }
        });
        let newer = threads.spawn(|| counting(&new));
        counting(&old);
        // Perhaps in the middle of what the newer one does, perhaps not.
        table.roll_back(new.view.generation(), 8).expect("no journal");
        newer.join().expect("no panic");
        done.store(true, Relaxed);
        sweeping.join().expect("no panic");
    });
    let sum: u64 = old.scan().expect("all rows").values().map(|value| count(value)).sum();
    assert_eq!(sum, 2 * ROUNDS);
    drop(new);
    assert!(old.sweep().complete);
    assert_eq!(table.census().rows, BTreeMap::from([(8, KEYS)]));
    assert_counters_are_exact(&table);
}

#[test]
fn a_scan_sees_each_row_that_stays_exactly_once_while_others_come_and_go() {
    const STAY: u64 = 20_000;
    const COME: u64 = 100_000;
    let table = Table::new("rows", Limits::NONE);
    let version = Version::start(&table, 1, true);
    for n in 0..STAY {
        version.put(&key(n), &[0]).expect("room");
    }
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut n = 0;
            while !done.load(Relaxed) {
                // Some are written again, and so many are new that shards grow.
                version.put(&key(n % STAY), &[1]).expect("room");
                version.put(&key(STAY + n % COME), &[2]).expect("room");
                if n % 3 == 0 {
                    version.remove(&key(STAY + n / 2 % COME)).expect("room");
                }
                n += 1;
            }
        });
        for _ in 0..5 {
            // Panics on a row that it sees twice.
            let seen = version.scan().expect("all rows");
            assert!((0..STAY).all(|n| seen.contains_key(&key(n)[..])));
        }
        done.store(true, Relaxed);
    });
    assert_counters_are_exact(&table);
}

#[test]
fn one_pass_after_a_commit_leaves_no_old_row_however_many_are_written_meanwhile() {
    const ROWS: u64 = 5_000;
    let table = Table::new("rows", Limits::NONE);
    let old = Version::start(&table, 8, true);
    table.commit(8).expect("no journal");
    for n in 0..ROWS {
        old.put(&key(n), &0_u64.to_be_bytes()).expect("room");
    }
    let new = Version::start(&table, 9, true);
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut n = 0;
            while !done.load(Relaxed) {
                add_one(&new, &key(n % ROWS));
                new.put(&key(ROWS + n % ROWS), &[7; 9]).expect("room");
                n += 1;
            }
        });
        // Its writes with images go on until the moment of the commit, and later
        // by a thread that has not seen it yet.
        for _ in 0..20 {
            old.get(&key(1)).expect("an image").expect("it is there");
        }
        drop(old);
        table.commit(9).expect("no journal");
        assert!(new.sweep().complete);
        let census = table.census();
        assert_eq!((census.rows.keys().copied().collect::<Vec<_>>(), census.images), (vec![9], 0));
        done.store(true, Relaxed);
    });
    assert_counters_are_exact(&table);
}

#[test]
fn rows_that_are_there_when_a_table_is_cleared_are_gone_and_later_ones_are_not() {
    let table = Table::new("rows", Limits::NONE);
    let journal = Arc::new(MemoryJournal::default());
    table.attach(journal.clone()).expect("room");
    let version = Version::start(&table, 1, true);
    let cleared = AtomicBool::new(false);
    thread::scope(|threads| {
        let writing = threads.spawn(|| {
            let mut n = 0;
            while !cleared.load(Relaxed) || n < 20_000 {
                version.put(&key(n), &[1]).expect("room");
                n += 1;
            }
            n
        });
        for _ in 0..20 {
            version.view.clear().expect("active");
        }
        cleared.store(true, Relaxed);
        let written = writing.join().expect("no panic");
        // One writer, in order: what is left is the end of what it wrote.
        let left = version.scan().expect("all rows");
        assert!(left.keys().zip(written - left.len() as u64..).all(|(found, n)| found[..] == key(n)));
    });
    let restored = Version::start(&journal.restored(None), 1, true);
    assert_eq!(restored.scan().expect("all rows"), version.scan().expect("all rows"));
    assert_counters_are_exact(&table);
}
