//! Committing the tables of a version that is about to serve, while callers wait
//! at the gate.
//!
//! It may wait for a disk, and callers must not: so it has a thread of its own, and
//! a time. Before the thread writes to a table, and before what is queued for a disk
//! is, it asks whether that is still wanted; if it came too late the gate is open again on
//! the version before, and the commit is taken back where it was written. Until it
//! is, nobody else changes these tables.

use super::{
    error::DeployError,
    tables::{Descent, Down, reads_all_rows},
    taken::Loss,
};
use crate::{service::OpenTables, table::Decision};
use crossbeam::channel::{self, RecvTimeoutError};
use std::{sync::Arc, thread, time::Instant};

/// Commits the tables, if nothing of them is out of reach but what may be lost,
/// which is returned.
///
/// # Errors
/// They are not committed: also where that could not be done before `until`.
pub(super) fn commit_behind_gate(
    tables: &Arc<OpenTables>,
    descent: &Descent,
    allow_loss: bool,
    until: Instant,
) -> Result<Vec<Loss>, DeployError> {
    let begun = Instant::now();
    let (tables, downs) = (Arc::clone(tables), descent.tables().to_vec());
    // Taken by the thread when it commits, or here when that is too late.
    let decision = Arc::<Decision>::default();
    let (inside, (done, outcome)) = (Arc::clone(&decision), channel::bounded(1));
    let work = move || {
        // Nobody waits for it any more if it was too late.
        commit(&tables, &downs, allow_loss, &inside, |committed| _ = done.send(committed));
    };
    thread::Builder::new().name("replug-gate".to_owned()).spawn(work).map_err(DeployError::Thread)?;
    let committed = match outcome.recv_deadline(until) {
        Err(RecvTimeoutError::Timeout) if decision.take() => {
            return Err(DeployError::SlowStore { waited: begun.elapsed() });
        }
        // It is being made, which waits for nothing; nor does it to say that it cannot be.
        Err(RecvTimeoutError::Timeout) => outcome.recv().ok(),
        Err(RecvTimeoutError::Disconnected) => None,
        Ok(committed) => Some(committed),
    };
    committed.unwrap_or(Err(DeployError::Panicked))
}

fn commit(
    tables: &OpenTables,
    downs: &[Down],
    allow_loss: bool,
    decision: &Decision,
    tell: impl FnOnce(Result<Vec<Loss>, DeployError>),
) {
    let losses = reads_all_rows(tables)
        .and_then(|()| downs.iter().filter_map(|down| down.loss(allow_loss).transpose()).collect());
    match losses {
        Err(error) => tell(Err(error)),
        Ok(losses) => tables.commit_unless(decision, |made| {
            tell(match made {
                Ok(true) => Ok(losses),
                Ok(false) => Err(DeployError::Overtaken),
                Err(error) => Err(error.into()),
            });
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::tables::testing::{Hanging, LONG, hanging, version},
        service::Tables,
        table::{Change, Journal, JournalError, Limits, NewImage, Record, Ticket, Write},
        table_store::TableStoreOptions,
    };
    use std::{
        sync::{
            Mutex,
            mpsc::{Receiver, Sender, channel},
        },
        time::Duration,
    };

    /// A store that takes records, and hangs over a row.
    struct HangingOnRows {
        records: Mutex<Vec<Record>>,
        asked: Sender<()>,
        go_on: Mutex<Receiver<()>>,
    }

    impl Journal for HangingOnRows {
        fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
            match change {
                Change::Control(record) => {
                    self.records.lock().expect("no panic").push(Record::clone(record));
                }
                _ => {
                    self.asked.send(()).expect("the test waits");
                    // Its end lets go on, too.
                    _ = self.go_on.lock().expect("no panic").recv();
                }
            }
            Ok(Ticket::NONE)
        }

        fn wait(&self, _: Ticket) -> Result<(), JournalError> {
            Ok(())
        }
    }

    /// Once, a thread that was late before it had written anything wrote its commit
    /// after that had been taken back, and only then asked.
    #[test]
    fn a_commit_that_was_given_up_before_it_wrote_writes_nothing_any_more() {
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        let (serving, next) = (version(&tables, 2), version(&tables, 1));
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        let view = Arc::clone(serving.all()[0].view());
        let ((asked, is_asked), (let_go_on, go_on)) = (channel(), channel());
        let store = Arc::new(HangingOnRows { records: Mutex::default(), asked, go_on: Mutex::new(go_on) });
        view.table().attach(store.clone()).expect("takes the record");
        let descent = Descent::of(Some(&serving), &next);
        descent.begin().expect("takes the record");
        next.activate().expect("writes");
        // Whoever counts what would be lost waits for this row.
        let writer = thread::spawn(move || {
            let image = NewImage::Of { schema: 1, bytes: b"" };
            view.put(b"key", &Write { image, ..Write::new(b"") }).map(drop)
        });
        is_asked.recv_timeout(LONG).expect("is asked");

        let refused = commit_behind_gate(&next, &descent, true, Instant::now() + Duration::from_millis(50));
        assert!(matches!(refused, Err(DeployError::SlowStore { .. })), "{refused:?}");
        next.undo(Some(&serving)).expect("takes the record");
        descent.give_up();
        let records = || store.records.lock().expect("no panic").clone();
        let before = records();
        drop(let_go_on);
        writer.join().expect("no panic").expect("is written");
        let until = Instant::now() + LONG;
        while Arc::strong_count(&next) > 1 {
            assert!(Instant::now() < until, "the thread ends");
            thread::yield_now();
        }
        assert_eq!(records(), before);
        assert!(before.iter().all(|record| record.base == 2));
    }

    /// Once, the gate stayed closed for as long as the disk hung, and the command
    /// loop stood.
    #[test]
    fn a_commit_that_hangs_is_given_up_in_time_and_taken_back_when_it_goes_on() {
        let tables = Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default());
        let (serving, next) = (version(&tables, 1), version(&tables, 2));
        serving.activate().expect("writes");
        serving.commit().expect("is the first");
        let table = Arc::clone(serving.all()[0].view().table());
        let (store, Hanging { asked, let_go_on }) = hanging();
        let_go_on.send(()).expect("it listens");
        table.attach(store).expect("takes the record");
        asked.recv_timeout(LONG).expect("takes the record");

        let begun = Instant::now();
        let until = begun + Duration::from_millis(50);
        let refused = commit_behind_gate(&next, &Descent::none(), false, until).expect_err("it hangs");
        assert!(matches!(refused, DeployError::SlowStore { .. }) && begun.elapsed() < LONG, "{refused}");
        asked.recv_timeout(LONG).expect("was written");
        let_go_on.send(()).expect("it listens");
        asked.recv_timeout(LONG).expect("is taken back");
        drop(let_go_on);
        // Who changes it next comes after that.
        table.cancel_downgrade().expect("nothing is to be written");
        assert_eq!(table.record().base, 1);
        commit_behind_gate(&next, &Descent::none(), false, Instant::now() + LONG).expect("is quick now");
        assert_eq!(table.record().base, 2);
    }
}
