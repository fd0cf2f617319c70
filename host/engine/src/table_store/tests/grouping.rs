//! Group commit: one sync for many, in order.

use super::super::committer::QUEUE_BYTES_MAX;
use super::*;
use crate::table::{Limits, Write as ToWrite};
use fjall::{OwnedWriteBatch, PersistMode};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Keeps commits from ending while it is shut, and counts them.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, u32)>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        self.state.lock().0 = shut;
        self.moved.notify_all();
    }

    fn commits(&self) -> u32 {
        self.state.lock().1
    }

    fn wait_for_commit(&self, count: u32) {
        let mut state = self.state.lock();
        while state.1 < count {
            let waited = self.moved.wait_for(&mut state, Duration::from_secs(20));
            assert!(!waited.timed_out(), "no commit");
        }
    }
}

impl Disk for Gate {
    fn commit(&self, batch: OwnedWriteBatch, mode: PersistMode) -> fjall::Result<()> {
        let mut state = self.state.lock();
        state.1 += 1;
        self.moved.notify_all();
        while state.0 {
            self.moved.wait(&mut state);
        }
        drop(state);
        RealDisk.commit(batch, mode)
    }
}

#[test]
fn writes_that_are_queued_during_a_commit_share_the_next_one() {
    let place = Place::new();
    let gate = Arc::new(Gate::default());
    let opened = place.open_on(gate.clone());
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    gate.set(true);
    let before = gate.commits();
    let first = journal.append(&Change::Put(row(b"first", b"", 1))).expect("sound");
    gate.wait_for_commit(before + 1);
    let (woken, order) = mpsc::channel();
    let mut tickets = vec![first];
    for number in 0..100_u64 {
        // One key again and again: the last one counts.
        let (value, revision) = (number.to_le_bytes(), number + 1);
        tickets.push(journal.append(&Change::Put(row(b"key", &value, revision))).expect("never waits"));
    }
    for ticket in tickets.iter().rev() {
        let (woken, ticket) = (woken.clone(), *ticket);
        let wake = move |outcome: Result<(), _>| woken.send((ticket, outcome.is_ok())).expect("a test");
        journal.when_durable(ticket, Box::new(wake));
    }
    assert!(order.try_recv().is_err(), "nothing is durable yet");
    thread::scope(|scope| {
        let waiters: Vec<_> =
            tickets.iter().map(|ticket| scope.spawn(|| journal.wait(*ticket).is_ok())).collect();
        gate.set(false);
        assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
    });
    assert_eq!(gate.commits(), before + 2);
    drop(woken);
    let woken: Vec<_> = order.iter().collect();
    assert_eq!(woken, tickets.iter().map(|ticket| (*ticket, true)).collect::<Vec<_>>());
    drop((opened, journal));
    let opened = place.open();
    assert_eq!(rows_for(NEWEST, only(&opened).0)[&b"key"[..]].2, 99_u64.to_le_bytes());
}

#[test]
fn whoever_writes_faster_than_the_disk_waits_and_nobody_with_him() {
    const ROW_BYTES: usize = QUEUE_BYTES_MAX / 16;
    let place = Place::new();
    let gate = Arc::new(Gate::default());
    let opened = place.open_on(gate.clone());
    let table = Table::new("safe", Limits::NONE);
    table.attach(opened.store.create("safe", Durability::Disk).expect("a new table")).expect("sound");
    let view = View::new(&table, 1);
    view.activate().expect("sound");
    let put = |key: u8| view.put(&[key], &ToWrite::new(&[0; ROW_BYTES])).expect("sound");
    gate.set(true);
    let written = AtomicU8::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for key in 0..64 {
                put(key);
                written.fetch_add(1, SeqCst);
            }
        });
        while written.load(SeqCst) < 15 {
            thread::yield_now();
        }
        // sleep: for a writer that does not wait, which would go on.
        thread::sleep(Duration::from_millis(200));
        assert!((15..=16).contains(&written.load(SeqCst)) && !writer.is_finished());
        for key in 0..15 {
            assert_eq!(view.get(&[key], &mut []).expect("nobody holds its lock").bytes, ROW_BYTES);
        }
        gate.set(false);
    });
    opened.store.close().expect("sound");
    assert_eq!(rows_for(NEWEST, only(&place.open()).0).len(), 64);
}

#[test]
fn a_wake_that_writes_does_not_wait_for_itself() {
    let place = Place::new();
    let gate = Arc::new(Gate::default());
    let opened = place.open_on(gate.clone());
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    gate.set(true);
    let before = gate.commits();
    let first = journal.append(&Change::Put(row(b"first", b"", 1))).expect("sound");
    gate.wait_for_commit(before + 1);
    journal.append(&Change::Put(row(b"large", &[0; QUEUE_BYTES_MAX], 1))).expect("sound");
    let (woken, outcome) = mpsc::channel();
    let writes = Arc::clone(&journal);
    let wake = move |result: Result<(), _>| {
        writes.wait_for_room();
        woken.send(result.is_ok()).expect("a test");
    };
    journal.when_durable(first, Box::new(wake));
    gate.set(false);
    assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(true));
}

/// Once, it was called by the thread that makes the commits: nothing was ever
/// durable again.
#[test]
fn a_wake_may_wait_until_what_it_writes_is_durable() {
    let place = Place::new();
    let gate = Arc::new(Gate::default());
    let opened = place.open_on(gate.clone());
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    gate.set(true);
    let before = gate.commits();
    let first = journal.append(&Change::Put(row(b"first", b"", 1))).expect("sound");
    gate.wait_for_commit(before + 1);
    let (woken, outcome) = mpsc::channel();
    let writes = Arc::clone(&journal);
    let wake = move |_| {
        let second = writes.append(&Change::Put(row(b"second", b"", 1)));
        woken.send(second.and_then(|ticket| writes.wait(ticket)).is_ok()).expect("a test");
    };
    journal.when_durable(first, Box::new(wake));
    gate.set(false);
    assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn a_change_after_a_clear_in_the_same_commit_is_kept_and_one_before_is_not() {
    let place = Place::new();
    let gate = Arc::new(Gate::default());
    let opened = place.open_on(gate.clone());
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    gate.set(true);
    let before = gate.commits();
    journal.append(&Change::Put(row(b"older", b"", 1))).expect("sound");
    gate.wait_for_commit(before + 1);
    for change in [
        Change::Put(row(b"before", b"", 1)),
        Change::Put(row(b"both", b"before", 1)),
        Change::Clear,
        Change::Put(row(b"both", b"after", 2)),
        Change::Put(row(b"removed", b"", 2)),
        Change::Remove { key: b"removed" },
    ] {
        journal.append(&change).expect("sound");
    }
    gate.set(false);
    drop((opened, journal));
    let opened = place.open();
    let expected = Rows::from([(b"both".to_vec(), (2, 1, b"after".to_vec()))]);
    assert_eq!(rows_for(NEWEST, only(&opened).0), expected, "what was queued is written before the end");
}

#[test]
fn those_who_ask_late_are_answered_at_once() {
    let place = Place::new();
    let opened = place.open();
    for (durability, name) in BOTH {
        let journal = opened.store.create(name, durability).expect("a new table");
        let ticket = journal.append(&Change::Put(row(b"key", b"", 1))).expect("sound");
        journal.wait(ticket).expect("sound");
        journal.wait(ticket).expect("as often as one likes");
        let (woken, outcome) = mpsc::channel();
        journal.when_durable(ticket, Box::new(move |outcome| woken.send(outcome.is_ok()).expect("a test")));
        assert_eq!(outcome.try_recv(), Ok(true));
    }
}

#[test]
fn the_last_journal_may_go_in_a_wake() {
    let place = Place::new();
    let opened = place.open();
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    let ticket = journal.append(&Change::Put(row(b"key", b"", 1))).expect("sound");
    let (woken, outcome) = mpsc::channel();
    let last = Arc::clone(&journal);
    journal.when_durable(
        ticket,
        Box::new(move |result| {
            drop(last);
            woken.send(result.is_ok()).expect("a test");
        }),
    );
    drop((journal, opened));
    assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(true));
}
