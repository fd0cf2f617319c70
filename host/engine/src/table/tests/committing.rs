//! Committing several tables at once: all of them or none, and what their stores are
//! told meanwhile.

use super::durable::durable;
use super::*;
use crate::failure::{Code, Failure};
use crossbeam::channel::{self, Receiver, Sender};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// What was told when all was done.
fn commit(tables: &[(Arc<Table>, u32)], decision: &Decision) -> Result<bool, TableError> {
    let mut outcome = None;
    Table::commit_all_unless(tables, decision, |told| outcome = Some(told));
    outcome.expect("is told")
}

/// Once, the tables before the one whose store failed were committed, and what the
/// version wrote that served on counted no more.
#[test]
fn a_commit_of_several_tables_is_one_of_none_when_a_store_fails() {
    for is_known in [true, false] {
        // Two activations fit in, and no commit.
        let ((first, journal), (second, _)) = (durable(None), durable(Some(2)));
        let old = [&first, &second].map(|table| Version::start(table, 2, false));
        first.commit(2).expect("room");
        old[0].put(b"a", &[1, 2]).expect("room");
        let _new = [&first, &second].map(|table| Version::start(table, 1, false));
        if is_known {
            second.commit(2).expect_err("no room");
        }
        let before = (first.record(), journal.kept.lock().len());
        let refused = Table::commit_all(&[(Arc::clone(&first), 1), (Arc::clone(&second), 1)]);
        assert_eq!(refused.expect_err("no room").code(), Code::TableStoreFailed);
        assert_eq!((first.record(), journal.restored(None).record()), (before.0.clone(), before.0));
        assert_eq!(journal.kept.lock().len() > before.1, !is_known, "it was tried and taken back");
        assert_eq!(old[0].get(b"a").expect("counts").map(|(_, value)| value), Some(vec![1, 2]));
    }
}

/// Refuses commits, and says what another table has as committed when it is asked.
struct Refusing {
    other: Arc<Table>,
    seen: Mutex<Vec<u32>>,
}

impl Journal for Refusing {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        if let Change::Control(Record { base: 2, .. }) = change {
            self.seen.lock().push(self.other.record().base);
            return Err(Arc::from(Box::from("no room")));
        }
        Ok(Ticket::NONE)
    }

    fn wait(&self, _: Ticket) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Once, a sweep could put away rows of the version that serves on, by a commit that
/// was taken back a moment later.
#[test]
fn a_commit_of_several_tables_counts_in_none_of_them_before_all_stores_have_it() {
    let first = durable(None).0;
    let refusing = Arc::new(Refusing { other: Arc::clone(&first), seen: Mutex::default() });
    let then = super::super::Restore::new("then", Limits::NONE).finish(Some(refusing.clone()));
    for table in [&first, &then] {
        table.commit(1).expect("room");
    }
    for order in [[&first, &then], [&then, &first]] {
        let both = order.map(|table| (Arc::clone(table), 2));
        Table::commit_all(&both).expect_err("no room");
        assert_eq!((first.record().base, then.record().base), (1, 1));
    }
    assert_eq!(*refusing.seen.lock(), [1], "asked once, and nothing counted yet");
}

/// Gives a commit up when it is asked to take it, and counts what it is told.
#[derive(Default)]
struct GivingUp {
    decision: Decision,
    bases: Mutex<Vec<u32>>,
    is_queued: bool,
}

impl Journal for GivingUp {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        if let Change::Control(Record { base, .. }) = change {
            self.bases.lock().push(*base);
            _ = *base == 2 && self.decision.take();
        }
        Ok(Ticket::NONE)
    }

    fn is_queued(&self) -> bool {
        self.is_queued
    }

    fn wait(&self, _: Ticket) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Once, it was asked for at the end only, and all stores were told a commit that
/// they were then told to forget.
#[test]
fn a_commit_of_several_tables_that_is_given_up_goes_no_further_and_is_taken_back() {
    let journal = Arc::new(GivingUp::default());
    let tables = ["first", "then"]
        .map(|name| super::super::Restore::new(name, Limits::NONE).finish(Some(journal.clone())));
    for table in &tables {
        table.commit(1).expect("room");
    }
    let both = tables.each_ref().map(|table| (Arc::clone(table), 2));
    assert!(!commit(&both, &journal.decision).expect("room"));
    assert_eq!(tables.each_ref().map(|table| table.record().base), [1, 1]);
    assert_eq!(*journal.bases.lock(), [1, 1, 2, 1], "one was asked, and told that it is not so");
}

/// Once, tables were written in the order of their names: one that is queued was on
/// the disk before another's was given up, and with it rows of the version that served
/// on, which were void after a crash.
#[test]
fn a_commit_that_may_be_given_up_is_queued_nowhere() {
    let queued = Arc::new(GivingUp { is_queued: true, ..GivingUp::default() });
    let direct = Arc::new(GivingUp::default());
    let [first, then] = [("first", &queued), ("then", &direct)]
        .map(|(name, journal)| super::super::Restore::new(name, Limits::NONE).finish(Some(journal.clone())));
    let commit_both = |schema, decision: &Decision| {
        commit(&[(Arc::clone(&first), schema), (Arc::clone(&then), schema)], decision)
    };
    assert!(commit_both(1, &Decision::default()).expect("room"));
    assert!(!commit_both(2, &direct.decision).expect("room"));
    assert_eq!((&*queued.bases.lock(), &*direct.bases.lock()), (&vec![1], &vec![1, 2, 1]));
    assert!(commit_both(2, &Decision::default()).expect("room"));
    assert_eq!((first.record().base, then.record().base), (2, 2));
}

/// What a journal was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Base(u32),
    Row,
}

/// Does what it is scripted to do when it is told which schema is committed.
struct Scripted<F> {
    told: Mutex<Vec<Told>>,
    on_base: F,
    is_queued: bool,
}

impl<F: Fn(u32) -> Result<(), JournalError> + Send + Sync> Journal for Scripted<F> {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        match change {
            Change::Control(Record { base, .. }) => {
                self.told.lock().push(Told::Base(*base));
                (self.on_base)(*base)?;
            }
            _ => self.told.lock().push(Told::Row),
        }
        Ok(Ticket::NONE)
    }

    fn is_queued(&self) -> bool {
        self.is_queued
    }

    fn wait(&self, _: Ticket) -> Result<(), JournalError> {
        Ok(())
    }
}

type Tried<F> = (Arc<Table>, Arc<Scripted<F>>);

/// A table at schema 2 with such a journal.
fn scripted<F>(name: &str, is_queued: bool, on_base: F) -> Tried<F>
where
    F: Fn(u32) -> Result<(), JournalError> + Send + Sync + 'static,
{
    let journal = Arc::new(Scripted { told: Mutex::default(), on_base, is_queued });
    let table = super::super::Restore::new(name, Limits::NONE).finish(Some(journal.clone()));
    table.commit(2).expect("is taken");
    journal.told.lock().clear();
    (table, journal)
}

fn no_room() -> JournalError {
    Arc::from(Box::from("no room"))
}

/// Once, a row that was acknowledged when a commit had been given up could stand before
/// what takes that back, and was void if the process was killed in between. Who reads
/// does not wait with it.
#[test]
fn rows_wait_until_a_commit_that_is_given_up_is_taken_back_in_all_tables() {
    let decision = Arc::new(Decision::default());
    let (begin, begun) = channel::bounded::<()>(1);
    let (wrote, has_written) = channel::bounded::<()>(2);
    let (look, is_to_look) = channel::bounded::<()>(1);
    let (saw, has_seen) = channel::bounded::<()>(1);
    let inside = Arc::clone(&decision);
    let direct = scripted("direct", false, move |base| {
        if base == 1 {
            begin.send(()).expect("the writer waits");
            let early = has_written.recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "rows are written while it is open");
            look.send(()).expect("the reader waits");
            has_seen.recv_timeout(Duration::from_secs(20)).expect("rows are read meanwhile");
            _ = inside.take();
        }
        Ok(())
    });
    let queued = scripted("queued", true, |_| Ok(()));
    let writers = [&direct.0, &queued.0].map(|table| Version::start(table, 2, false));
    let tables = [&direct.0, &queued.0].map(|table| (Arc::clone(table), 1));
    thread::scope(|scope| {
        let (wrote, writers) = (&wrote, &writers);
        scope.spawn(|| {
            is_to_look.recv_timeout(Duration::from_secs(20)).expect("it is committed");
            assert_eq!(writers[0].get(b"row").expect("is read"), None);
            saw.send(()).expect("room");
        });
        scope.spawn(move || {
            begun.recv_timeout(Duration::from_secs(20)).expect("it is committed");
            thread::scope(|scope| {
                for writer in writers {
                    scope.spawn(move || {
                        writer.put(b"row", &[1, 2]).expect("is taken");
                        wrote.send(()).expect("room for both");
                    });
                }
            });
        });
        assert!(!commit(&tables, &decision).expect("is taken back"));
    });
    let told = |journal: &Mutex<Vec<Told>>| journal.lock().split_off(1);
    assert_eq!(told(&direct.1.told), [Told::Base(1), Told::Base(2), Told::Row]);
    assert_eq!(told(&queued.1.told), [Told::Row], "it was not queued yet");
}

/// Once, rows of all of a plugin's tables waited for each of its commits.
#[test]
fn rows_wait_for_no_commit_by_which_none_is_void() {
    let (begin, begun) = channel::bounded::<()>(1);
    let (wrote, has_written) = channel::bounded::<()>(1);
    let direct = scripted("direct", false, move |base| {
        if base == 3 {
            begin.send(()).expect("the writer waits");
            has_written.recv_timeout(Duration::from_secs(20)).expect("is written meanwhile");
        }
        Ok(())
    });
    let writer = Version::start(&direct.0, 3, true);
    let tables = [(Arc::clone(&direct.0), 3)];
    thread::scope(|scope| {
        scope.spawn(|| {
            begun.recv_timeout(Duration::from_secs(20)).expect("it is committed");
            writer.put(b"row", &[1, 2, 3]).expect("is taken");
            wrote.send(()).expect("room");
        });
        assert!(commit(&tables, &Decision::default()).expect("is committed"));
    });
    assert_eq!(direct.1.told.lock().split_off(1), [Told::Base(3), Told::Row]);
}

/// Once, whoever waited behind the gate waited until a commit was taken back, on a disk
/// that hung.
#[test]
fn a_commit_that_fails_is_told_before_it_is_taken_back() {
    let (asked, is_asked): (Sender<()>, Receiver<()>) = channel::bounded(1);
    let (let_go_on, go_on): (Sender<()>, Receiver<()>) = channel::bounded(1);
    let is_begun = AtomicBool::new(false);
    let direct = scripted("direct", false, move |base| {
        match base {
            1 => is_begun.store(true, SeqCst),
            _ if is_begun.load(SeqCst) => {
                asked.send(()).expect("room");
                go_on.recv().expect("goes on");
            }
            _ => {}
        }
        Ok(())
    });
    let queued = scripted("queued", true, |base| if base == 1 { Err(no_room()) } else { Ok(()) });
    let tables = [&direct.0, &queued.0].map(|table| (Arc::clone(table), 1));
    let (tell, told) = channel::bounded(1);
    let committing = thread::spawn(move || {
        Table::commit_all_unless(&tables, &Decision::default(), |made| tell.send(made).expect("room"));
    });
    let made = told.recv_timeout(Duration::from_secs(20)).expect("is told while it hangs");
    assert_eq!(made.expect_err("no room").code(), Code::TableStoreFailed);
    is_asked.recv_timeout(Duration::from_secs(20)).expect("is taken back then");
    let_go_on.send(()).expect("it hangs");
    committing.join().expect("no panic");
    assert_eq!(*direct.1.told.lock(), [Told::Base(1), Told::Base(2)]);
}

/// Once, the other tables went on: what they acknowledged was void for whoever found
/// the commit of the first after a crash.
#[test]
fn where_a_commit_cannot_be_taken_back_no_table_whose_rows_it_voids_takes_any_more() {
    for fails_at in [0, 1, 2] {
        let is_begun = AtomicBool::new(false);
        let direct = scripted("direct", false, move |base| {
            _ = base == 1 && is_begun.swap(true, SeqCst);
            let fails = base == fails_at && is_begun.load(SeqCst);
            if fails { Err(no_room()) } else { Ok(()) }
        });
        let queued = scripted("queued", true, |base| if base == 1 { Err(no_room()) } else { Ok(()) });
        let voided = scripted("voided", true, |_| Ok(()));
        let kept = scripted("kept", true, |_| Ok(()));
        let both = [&voided.0, &kept.0].map(|table| Version::start(table, 2, false));
        // What is written is of no later schema than what is to be committed.
        let tables = [(&direct.0, 1), (&queued.0, 1), (&voided.0, 1), (&kept.0, 2)];
        let tables = tables.map(|(table, schema)| (Arc::clone(table), schema));
        commit(&tables, &Decision::default()).expect_err("no room");
        let written = both[0].put(b"row", &[1, 2]);
        assert_eq!(written.is_ok(), fails_at == 0, "{written:?}");
        if let Err(refused) = written {
            assert_eq!(refused.code(), Code::TableStoreFailed);
            let cause = std::error::Error::source(&refused).expect("why").to_string();
            assert!(cause.contains("direct"), "{cause}");
        }
        both[1].put(b"row", &[1, 2]).expect("it voids nothing here");
    }
}
