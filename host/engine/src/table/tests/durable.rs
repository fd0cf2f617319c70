//! Tables with a journal: what is told it, what happens when it fails, and what
//! comes back.

use super::super::Void;
use super::*;
use crate::failure::{Code, Failure};

pub(super) fn durable(room: Option<usize>) -> (Arc<Table>, Arc<MemoryJournal>) {
    let journal = Arc::new(MemoryJournal { room, ..MemoryJournal::default() });
    (super::super::Restore::new("rows", Limits::NONE).finish(Some(journal.clone())), journal)
}

#[test]
fn a_restored_table_is_the_one_that_was_written() {
    let (table, journal) = durable(None);
    let old = Version::start(&table, 1, true);
    table.commit(1).expect("room");
    old.put(b"a", &[1]).expect("room");
    old.put(b"b", &[2]).expect("room");
    let written = old.put(b"gone", &[3]).expect("room");
    assert!(written.ticket != 0 && old.view.wait(written.ticket).is_ok());
    old.remove(b"gone").expect("room");
    let new = Version::start(&table, 2, true);
    new.put(b"b", &[20, 21]).expect("room");

    let restored = journal.restored(None);
    assert_eq!((restored.size(), restored.record()), (table.size(), table.record()));
    let old = Version::start(&restored, 1, true);
    assert!(old.view.generation() > new.view.generation());
    let rows = BTreeMap::from([(b"a".to_vec(), vec![1]), (b"b".to_vec(), vec![20])]);
    assert_eq!(old.scan().expect("images"), rows);
    let again = old.put(b"gone", &[3]).expect("room");
    assert!(again.revision > written.revision, "also after a removal that nobody remembers");
    assert_counters_are_exact(&restored);
}

/// Once, what was prepared was kept as if it were committed: the next version of
/// the earlier schema took all rows that had no image yet for void.
#[test]
fn a_downgrade_that_a_crash_cut_short_is_not_committed_and_its_losses_are_counted() {
    let (table, journal) = durable(None);
    let new = Version::start(&table, 3, true);
    table.commit(3).expect("room");
    for key in 0..10_u8 {
        new.put(&[key], &[key, 1, 2]).expect("room");
    }
    table.prepare_downgrade(1).expect("room");
    new.put(b"late", &[9, 1, 2]).expect("room");

    let restored = journal.restored(None);
    let record = restored.record();
    assert_eq!((record.base, record.downgrade_to, record.floor()), (3, 1, 1));
    assert_eq!(restored.losses(), 10, "all but the one that was written since");
    let again = Version::start(&restored, 3, true);
    restored.commit(3).expect("no journal");
    assert_eq!((restored.record().downgrade_to, restored.losses()), (0, 0));
    assert_eq!(again.scan().expect("readable").len(), 11);
}

#[test]
fn a_failed_journal_stops_writes_and_nothing_else() {
    let (table, journal) = durable(Some(3));
    let version = Version::start(&table, 1, true);
    table.commit(1).expect("room");
    version.put(b"a", &[1]).expect("room");
    let before = table.size();
    for key in [&b"a"[..], b"b"] {
        let failed = version.put(key, &[9]).expect_err("the journal is full");
        assert_eq!(failed.code(), Code::TableStoreFailed);
        let cause = std::error::Error::source(&failed).expect("what the journal said");
        assert_eq!(cause.to_string(), "no space");
    }
    assert!(version.remove(b"a").is_err() && version.view.clear().is_err());
    assert!(table.roll_back(1, 1).is_ok(), "the record does not change by it");
    assert!(table.prepare_downgrade(2).is_ok(), "nor by what is no way down");
    assert!(table.commit(2).is_err());
    assert_eq!(table.record().base, 1);
    assert_eq!(version.get(b"a").expect("readable").map(|(_, value)| value), Some(vec![1]));
    assert_eq!((table.size(), journal.kept.lock().len()), (before, 3));
    assert_counters_are_exact(&table);
}

#[test]
fn a_table_that_becomes_durable_is_whole_in_its_journal_after_one_pass() {
    let table = Table::new("rows", Limits::NONE);
    let version = Version::start(&table, 1, true);
    table.commit(1).expect("no journal");
    for key in 0..100_u8 {
        version.put(&[key], &[key]).expect("room");
    }
    let journal = Arc::new(MemoryJournal::default());
    table.attach(journal.clone()).expect("room");
    assert!(table.attach(journal.clone()).is_err(), "there is one already");
    version.put(&[3], &[30]).expect("room");
    version.remove(&[4]).expect("room");
    assert!(table.record().partial);
    assert!(version.sweep().complete);
    assert!(!table.record().partial);
    assert!(version.sweep().idle);
    let restored = journal.restored(None);
    assert_eq!((restored.size(), restored.record()), (table.size(), table.record()));
    let again = Version::start(&restored, 1, true);
    assert_eq!(again.scan().expect("readable"), version.scan().expect("readable"));
}

/// One whose disk has more to do than it should.
#[derive(Default)]
struct BusyJournal(MemoryJournal);

impl Journal for BusyJournal {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        self.0.append(change)
    }

    fn has_room(&self) -> bool {
        false
    }

    fn wait_for_room(&self) {
        panic!("somebody waits for the disk");
    }

    fn wait(&self, ticket: Ticket) -> Result<(), JournalError> {
        self.0.wait(ticket)
    }
}

#[test]
fn a_reader_waits_for_no_disk_to_write_back_what_it_converted() {
    let table = Table::new("rows", Limits::NONE);
    let old = Version::start(&table, 1, true);
    table.commit(1).expect("no journal");
    old.put(b"a", &[1]).expect("room");
    table.attach(Arc::new(BusyJournal::default())).expect("room");
    let new = Version::start(&table, 2, true);
    assert_eq!(new.get(b"a").expect("readable").map(|(_, value)| value), Some(vec![1, 2]));
    assert_eq!(table.census().rows, BTreeMap::from([(1, 1)]));
}

#[test]
fn a_table_that_becomes_durable_is_told_its_rows_before_anything_is_committed() {
    let table = Table::new("rows", Limits::NONE);
    let old = Version::start(&table, 1, true);
    table.commit(1).expect("no journal");
    for key in 0..100_u8 {
        old.put(&[key], &[key]).expect("room");
    }
    let new = Version::start(&table, 2, false);
    let journal = Arc::new(MemoryJournal::default());
    table.attach(journal.clone()).expect("room");
    new.put(&[3], &[30, 31]).expect("room");
    assert!(journal.restored(None).record().partial, "and says so");
    let mut sweep = Sweep::without_plugin(&new.view);
    let report = loop {
        match sweep.next_batch(7).expect("a sound journal") {
            Batch::Rows(rows) => assert!(rows.is_empty(), "nobody is to convert any"),
            Batch::End(report) => break report,
        }
    };
    assert_eq!(report.progress.repaired, 100);
    assert_eq!((table.record().base, table.census().images), (1, 1), "the way back is there");
    let restored = journal.restored(None);
    assert_eq!((restored.size(), restored.record()), (table.size(), table.record()));
    assert!(!restored.record().partial);
}

#[test]
fn a_table_without_rows_is_whole_in_its_journal_at_once() {
    let table = Table::new("rows", Limits::NONE);
    let journal = Arc::new(MemoryJournal::default());
    table.attach(journal.clone()).expect("room");
    assert!(!table.record().partial && !journal.restored(None).record().partial);
}

#[test]
fn a_journal_that_fails_at_once_leaves_the_table_as_it_was() {
    let table = Table::new("rows", Limits::NONE);
    let version = Version::start(&table, 1, true);
    let full = MemoryJournal { room: Some(0), ..MemoryJournal::default() };
    let failed = table.attach(Arc::new(full)).expect_err("the journal is full");
    assert_eq!(failed.code(), Code::TableStoreFailed);
    version.put(b"a", &[1]).expect("it is kept in memory, as before");
    assert!(!table.record().partial);
    table.attach(Arc::new(MemoryJournal::default())).expect("another one has room");
}

#[test]
fn rows_that_no_table_writes_are_refused() {
    let good = RowRef { key: b"k", value: b"v", schema: 2, generation: 1, revision: 1, image: None };
    let image = |schema| Some(Image { schema, bytes: b"i", fresh: true });
    let key = [0; super::super::KEY_BYTES_MAX + 1];
    let bad = [
        RowRef { schema: 0, ..good },
        RowRef { revision: 0, ..good },
        RowRef { revision: u64::MAX / 2 + 1, ..good },
        RowRef { schema: u32::MAX, ..good },
        RowRef { generation: u32::MAX, ..good },
        RowRef { key: &key, ..good },
        RowRef { image: image(2), ..good },
        RowRef { image: image(0), ..good },
    ];
    let mut restore = super::super::Restore::new("rows", Limits::NONE);
    for row in bad {
        let refused = restore.apply(&Change::Put(row)).expect_err("a table writes none such");
        assert_eq!(refused.code(), Code::TableCorrupt);
        assert!(refused.to_string().starts_with("the store of table rows is damaged: row "), "{refused}");
    }
    restore.apply(&Change::Put(RowRef { image: image(1), ..good })).expect("a sound row");
    assert_eq!(restore.finish(None).size().rows, 1);
}

#[test]
fn records_that_no_table_writes_are_refused() {
    let void = Void { first: 1, last: 2, above: 1 };
    let good =
        Record { base: 1, downgrade_to: 0, generation: 2, newest: 2, voids: vec![void], partial: false };
    let with = |void| Record { voids: vec![void], ..good.clone() };
    let bad = [
        Record { generation: u32::MAX, ..good.clone() },
        Record { base: u32::MAX, ..good.clone() },
        Record { downgrade_to: 1, ..good.clone() },
        Record { newest: u32::MAX, ..good.clone() },
        with(Void { first: 3, ..void }),
        with(Void { last: u32::MAX, ..void }),
        with(Void { above: u32::MAX, ..void }),
    ];
    let mut restore = super::super::Restore::new("rows", Limits::NONE);
    for record in bad {
        let refused = restore.apply(&Change::Control(&record)).expect_err("a table writes none such");
        assert_eq!(refused.code(), Code::TableCorrupt);
        assert!(
            refused.to_string().starts_with("the store of table rows is damaged: its record "),
            "{refused}"
        );
    }
    restore.apply(&Change::Control(&good)).expect("a sound record");
    assert_eq!(restore.finish(None).record(), good);
}

/// Takes changes, and keeps the first only.
#[derive(Default)]
struct KeepsOne(Mutex<u64>);

impl Journal for KeepsOne {
    fn append(&self, _: &Change<'_>) -> Result<Ticket, JournalError> {
        let mut taken = self.0.lock();
        *taken += 1;
        Ok(Ticket(*taken))
    }

    fn wait(&self, ticket: Ticket) -> Result<(), JournalError> {
        if ticket.0 > 1 { Err(Arc::from(Box::from("no room"))) } else { Ok(()) }
    }
}

/// Once, what was queued for a disk was taken for undone.
#[test]
fn a_record_is_waited_for_as_it_was_written_last() {
    let table = super::super::Restore::new("rows", Limits::NONE).finish(Some(Arc::new(KeepsOne::default())));
    table.commit(1).expect("is queued");
    table.wait_for_record().expect("is kept");
    table.commit(2).expect("is queued");
    assert_eq!(table.wait_for_record().expect_err("is not kept").code(), Code::TableStoreFailed);
    assert_eq!(table.commit(3).expect_err("is over").code(), Code::TableStoreFailed);
}
