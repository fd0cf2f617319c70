//! Single cases of the rules, each as an operator or an author would tell it.

use super::*;
use crate::failure::{Code, Failure};
use crate::table::{KEY_BYTES_MAX, ROW_OVERHEAD_BYTES, Settled, VALUE_BYTES_MAX};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

fn table() -> Arc<Table> {
    Table::new("rows", Limits::NONE)
}

/// A table whose committed version has this schema.
fn committed(schema: u32) -> (Arc<Table>, Version) {
    let table = table();
    let version = Version::start(&table, schema, true);
    table.commit(schema).expect("no journal");
    (table, version)
}

fn value(version: &Version, key: &[u8]) -> Option<Value> {
    version.get(key).expect("a row for it").map(|(_, value)| value)
}

#[test]
fn a_rolled_back_version_leaves_all_its_writes_to_the_older_one() {
    let (table, old) = committed(1);
    old.put(b"a", &[1]).expect("room");
    let new = Version::start(&table, 2, true);
    assert_eq!(value(&new, b"a"), Some(vec![1, 2]));
    new.put(b"a", &[5, 50]).expect("room");
    new.put(b"b", &[6, 60]).expect("room");
    assert_eq!((value(&old, b"a"), value(&old, b"b")), (Some(vec![5]), Some(vec![6])));
    assert_eq!(table.losses(), 0);

    table.roll_back(new.view.generation(), 1).expect("no journal");
    new.put(b"c", &[7, 70]).expect("in its last call");
    assert_eq!(old.scan().expect("all rows"), new_rows(&[(b"a", 5), (b"b", 6), (b"c", 7)]));
    assert_eq!(table.census().unswept, 2);
    let report = old.sweep();
    assert!(report.complete && report.progress.repaired == 2, "{report:?}");
    assert_eq!(table.census().rows, BTreeMap::from([(1, 3)]));
    assert_eq!(table.record().voids.len(), 1, "the version is not gone yet");
    drop(new);
    assert!(old.sweep().idle);
    assert_eq!(table.record().voids, []);
    assert_counters_are_exact(&table);
}

fn new_rows(rows: &[(&[u8], u8)]) -> BTreeMap<Vec<u8>, Value> {
    rows.iter().map(|(key, value)| (key.to_vec(), vec![*value])).collect()
}

#[test]
fn a_version_without_a_way_back_costs_what_it_wrote_and_the_loss_is_counted_before() {
    let (table, old) = committed(1);
    old.put(b"a", &[1]).expect("room");
    let new = Version::start(&table, 2, false);
    new.put(b"a", &[5, 50]).expect("room");
    new.put(b"a", &[6, 60]).expect("room");
    new.put(b"b", &[7, 70]).expect("room");
    assert_eq!(table.losses(), 2);
    assert_eq!(value(&old, b"a"), Some(vec![1]));
    let refused = old.get(b"b").expect_err("it was never in schema 1");
    assert_eq!(refused.code(), Code::TableNewerRow);
    assert_eq!(refused.to_string(), "row \"b\" of table rows has schema 2, and the version reads up to 1");

    table.roll_back(new.view.generation(), 1).expect("no journal");
    new.put(b"a", &[8, 80]).expect("in its last call");
    assert_eq!((value(&old, b"a"), value(&old, b"b")), (Some(vec![1]), None));
    assert_eq!((table.losses(), table.size().rows), (0, 2));
    old.sweep();
    assert_eq!(table.size().rows, 1);
}

#[test]
fn the_last_calls_of_a_rolled_back_version_do_no_harm_to_a_later_one_of_its_schema() {
    let (table, _old) = committed(1);
    let failed = Version::start(&table, 2, false);
    table.roll_back(failed.view.generation(), 1).expect("no journal");
    let again = Version::start(&table, 2, true);
    table.commit(2).expect("no journal");
    again.put(b"a", &[1, 2]).expect("room");
    failed.put(b"a", &[9, 9]).expect("in its last call");
    failed.put(b"b", &[9, 9]).expect("in its last call");
    assert_eq!((value(&again, b"a"), value(&again, b"b")), (Some(vec![1, 2]), None));
}

#[test]
fn a_commit_is_followed_by_a_sweep_that_converts_the_old_rows_and_drops_the_images() {
    let (table, old) = committed(1);
    for key in 0..100_u8 {
        old.put(&[key], &[key]).expect("room");
    }
    let new = Version::start(&table, 3, true);
    for key in 50..60_u8 {
        new.put(&[key], &[key, 1, 2]).expect("room");
    }
    table.commit(3).expect("no journal");
    assert_eq!(table.census().images, 10);
    let report = new.sweep();
    assert!(!report.complete, "version 1 may still write");
    assert_eq!((report.progress.repaired, report.progress.converted), (10, 90));
    old.put(b"late", &[1]).expect("room");
    drop(old);
    assert!(new.sweep().complete);
    assert_eq!(table.census().rows, BTreeMap::from([(3, 101)]));
    assert_eq!(table.census().images, 0);
    assert!(new.sweep().idle);
    assert_counters_are_exact(&table);
}

#[test]
fn a_downgrade_over_two_schemas_loses_nothing_that_the_older_one_can_hold() {
    let (table, new) = committed(3);
    for key in 0..50_u8 {
        new.put(&[key], &[key, 1, 2]).expect("room");
    }
    table.prepare_downgrade(1).expect("no journal");
    new.put(b"fresh", &[9, 1, 2]).expect("room");
    assert_eq!(table.losses(), 50);
    let report = new.sweep();
    assert!(report.complete && report.progress.converted == 50, "{report:?}");
    assert_eq!(table.losses(), 0);

    let old = Version::start(&table, 1, true);
    assert_eq!(value(&old, &[7]), Some(vec![7]));
    old.put(&[7], &[70]).expect("room");
    assert_eq!(value(&new, &[7]), Some(vec![70, 71, 72]), "both serve");
    table.commit(1).expect("no journal");
    new.put(&[8], &[80, 1, 2]).expect("in its last call");
    assert_eq!((value(&old, &[7]), value(&old, &[8])), (Some(vec![70]), Some(vec![80])));
    drop(new);
    assert!(old.sweep().complete);
    assert_eq!(table.census().rows, BTreeMap::from([(1, 51)]));
}

/// Once, an image was made of the value brought up first, and the value with it:
/// then it counted as written by a version that could be gone back from.
#[test]
fn a_row_that_is_given_an_image_stays_as_it_was_written() {
    let (table, first) = committed(2);
    first.put(b"a", &[1, 2]).expect("room");
    let new = Version::start(&table, 3, true);
    table.commit(3).expect("no journal");
    let generation = first.view.generation();
    table.prepare_downgrade(1).expect("no journal");
    assert_eq!(new.sweep().progress.converted, 1);
    assert_eq!(table.census().rows, BTreeMap::from([(2, 1)]));
    table.roll_back(new.view.generation(), 2).expect("no journal");
    assert_eq!((value(&first, b"a"), first.view.generation()), (Some(vec![1, 2]), generation));
}

/// Once, going back from one version to another of its schema put the images of
/// an older one in the place of their rows.
#[test]
fn what_a_version_wrote_stays_when_the_one_that_is_gone_back_to_has_its_schema() {
    let (table, _old) = committed(1);
    let second = Version::start(&table, 2, true);
    let fixed = Version::start(&table, 2, true);
    fixed.put(b"a", &[1, 20]).expect("room");
    table.roll_back(fixed.view.generation(), 2).expect("no journal");
    assert_eq!((value(&second, b"a"), table.record().base), (Some(vec![1, 20]), 1));
}

#[test]
fn an_image_of_a_still_older_schema_does_not_pass_for_a_way_back() {
    let (table, old) = committed(1);
    let new = Version::start(&table, 3, true);
    new.put(b"a", &[1, 20, 30]).expect("room");
    table.commit(3).expect("no journal");
    drop(old);
    // No sweep has dropped the image in schema 1 when schema 2 is wanted.
    table.prepare_downgrade(2).expect("no journal");
    assert_eq!(table.losses(), 1);
    assert!(new.sweep().complete);
    let between = Version::start(&table, 2, true);
    assert_eq!(value(&between, b"a"), Some(vec![1, 20]));
}

#[test]
fn a_write_with_the_wrong_image_is_sent_back() {
    let (table, old) = committed(1);
    let new = Version::start(&table, 3, true);
    let write = |image| new.view.put(b"a", &Write { image, ..Write::new(&[1, 2, 3]) }).expect("room");
    let two = NewImage::Of { schema: 2, bytes: &[1, 2] };
    assert_eq!(write(NewImage::None), WriteOutcome::Image);
    assert_eq!(write(two), WriteOutcome::Image);
    table.commit(3).expect("no journal");
    assert_eq!(write(two), WriteOutcome::Image);
    assert!(matches!(write(NewImage::None), WriteOutcome::Written(_)));
    assert_eq!(old.view.image_schema(), 0);
}

#[test]
fn writes_are_for_versions_at_work_and_reads_for_all() {
    let (table, old) = committed(1);
    old.put(b"a", &[1]).expect("room");
    let view = View::new(&table, 1);
    let refused = |outcome: Result<WriteOutcome, TableError>| outcome.expect_err("not active").code();
    assert_eq!(refused(view.put(b"a", &Write::new(&[2]))), Code::TableNotActive);
    assert_eq!(refused(view.remove(b"a", RowWrite::ANY)), Code::TableNotActive);
    assert_eq!(view.clear().expect_err("not active").code(), Code::TableNotActive);
    assert_eq!(view.get(b"a", &mut [0; 4]).expect("readable").bytes, 1);
    let first = view.activate().expect("no journal");
    view.put(b"a", &Write::new(&[2])).expect("active");
    view.leave();
    assert_eq!(refused(view.put(b"a", &Write::new(&[2]))), Code::TableNotActive);
    assert!(view.activate().expect("no journal") > first);
    view.put(b"a", &Write::new(&[2])).expect("active again");
}

#[test]
fn conditions_are_on_the_revision_and_no_revision_comes_back() {
    let (_table, version) = committed(1);
    let outcome = |outcome: Result<WriteOutcome, TableError>| outcome.expect("room");
    let WriteOutcome::Written(first) = outcome(version.put_if(b"a", &[1], RowInfo::NO_ROW)) else {
        panic!("there was no row");
    };
    assert_eq!(first.existed, 0);
    let found = Written { revision: first.revision, ticket: 0, existed: 1 };
    assert_eq!(outcome(version.put_if(b"a", &[2], RowInfo::NO_ROW)), WriteOutcome::Conflict(found));
    assert_eq!(outcome(version.put_if(b"a", &[2], first.revision + 1)), WriteOutcome::Conflict(found));
    let WriteOutcome::Written(second) = outcome(version.put_if(b"a", &[2], first.revision)) else {
        panic!("it had that revision");
    };
    assert_eq!(outcome(version.view.remove(b"a", first.revision)), {
        WriteOutcome::Conflict(Written { revision: second.revision, ..found })
    });
    assert_eq!(version.remove(b"a").expect("room"), Written { existed: 1, ..Written::NOTHING });
    assert_eq!(version.remove(b"a").expect("room"), Written::NOTHING);
    let none = WriteOutcome::Conflict(Written::NOTHING);
    assert_eq!(outcome(version.put_if(b"a", &[3], second.revision)), none);
    assert!(version.put(b"a", &[3]).expect("room").revision > second.revision);
}

#[test]
fn limits_stop_growth_and_name_themselves() {
    let limits = Limits { rows_max: 2, bytes_max: 2 * (ROW_OVERHEAD_BYTES + 2) + 1 };
    let table = Table::new("rows", limits);
    let version = Version::start(&table, 1, true);
    let code = |outcome: Result<WriteOutcome, TableError>| outcome.expect_err("too much").code();
    version.put(b"a", &[1]).expect("room");
    version.put(b"b", &[1]).expect("room");
    assert_eq!(code(version.view.put(b"c", &Write::new(&[1]))), Code::TableRowsMax);
    assert_eq!(code(version.view.put(b"b", &Write::new(&[1; 3]))), Code::TableBytesMax);
    version.put(b"b", &[2]).expect("it does not grow");
    version.remove(b"a").expect("removal is always possible");
    version.put(b"c", &[1]).expect("room again");
    let long = [0; KEY_BYTES_MAX + 1];
    assert_eq!(code(version.view.put(&long, &Write::new(&[1]))), Code::TableKeyTooLarge);
    let large = vec![0; VALUE_BYTES_MAX + 1];
    assert_eq!(code(version.view.put(b"b", &Write::new(&large))), Code::TableRowTooLarge);
    table.set_limits(Limits::NONE);
    version.view.put(b"b", &Write::new(&large[1..])).expect("room");
    assert_counters_are_exact(&table);
}

#[test]
fn a_row_is_read_whole_or_only_measured_however_large() {
    let (_table, version) = committed(1);
    let large: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    version.view.put(b"large", &Write::new(&large)).expect("room");
    let mut bytes = vec![0xee; 100_000];
    let info = version.view.get(b"large", &mut bytes[..99_999]).expect("readable");
    assert_eq!((info.bytes, info.schema), (100_000, 1));
    assert!(bytes.iter().all(|byte| *byte == 0xee), "nothing is copied");
    assert_eq!(version.view.get(b"large", &mut bytes).expect("readable"), info);
    assert_eq!(bytes, large);
    assert_eq!(version.view.get(b"none", &mut bytes).expect("readable"), RowInfo::NONE);
    assert_eq!(version.view.clear().expect("active").existed, 1);
    assert_eq!(version.view.get(b"large", &mut bytes).expect("readable"), RowInfo::NONE);
    assert_eq!(version.view.size(), replug_abi::TableSize::default());
}

#[test]
fn a_pass_begins_anew_when_the_control_changes_and_its_rows_are_not_taken() {
    let (table, old) = committed(1);
    for key in 0..20_u8 {
        old.put(&[key], &[key]).expect("room");
    }
    let new = Version::start(&table, 2, true);
    table.commit(2).expect("no journal");
    let mut sweep = Sweep::new(&new.view);
    let rows = loop {
        match sweep.next_batch(4).expect("no journal") {
            Batch::Rows(rows) if rows.is_empty() => {}
            Batch::Rows(rows) => break rows,
            Batch::End(report) => panic!("20 rows are to be converted: {report:?}"),
        }
    };
    assert!((1..=4).contains(&rows.len()) && sweep.progress().rows_done > 0);
    drop(old);
    let moved = rows.last().expect("not empty").row().key;
    new.put(moved, &[0, 0]).expect("room");
    assert_eq!(new.settle(&mut sweep, &rows[0]).expect("no journal"), Settled::Outdated);
    assert!(new.sweep().complete);
    assert_eq!(table.census().rows, BTreeMap::from([(2, 20)]));
}

/// Once, a pass began anew when the library of a version that had left long ago
/// was unloaded: what it said it had done was only what was done since.
#[test]
fn a_pass_goes_on_when_a_version_is_unloaded_that_has_left_before() {
    let (table, old) = committed(1);
    for key in 0..20_u8 {
        old.put(&[key], &[key]).expect("room");
    }
    let new = Version::start(&table, 2, true);
    table.commit(2).expect("no journal");
    old.view.leave();
    let mut sweep = Sweep::new(&new.view);
    let rows = loop {
        match sweep.next_batch(4).expect("no journal") {
            Batch::Rows(rows) if rows.is_empty() => {}
            Batch::Rows(rows) => break rows,
            Batch::End(report) => panic!("20 rows are to be converted: {report:?}"),
        }
    };
    drop(old);
    assert_eq!(new.settle(&mut sweep, &rows[0]).expect("no journal"), Settled::Done);
    assert_eq!(sweep.progress().converted, 1);
}

#[test]
fn a_row_that_cannot_be_converted_is_left_and_said_to_be() {
    let (table, old) = committed(1);
    old.put(b"a", &[1]).expect("room");
    drop(old);
    let new = Version::start(&table, 2, true);
    table.commit(2).expect("no journal");
    let mut sweep = Sweep::new(&new.view);
    let report = loop {
        match sweep.next_batch(4).expect("no journal") {
            Batch::Rows(rows) => {
                for row in &rows {
                    let nothing = super::super::Converted::default();
                    assert_eq!(sweep.settle(row, &nothing).expect("no journal"), Settled::Left);
                }
            }
            Batch::End(report) => break report,
        }
    };
    assert!(!report.complete && !report.idle && report.progress.left == 1, "{report:?}");
    assert_eq!(value(&new, b"a"), Some(vec![1, 2]));
}

#[test]
fn a_reader_waits_for_nobody_to_write_back_what_it_converted() {
    let (table, old) = committed(1);
    old.put(b"a", &[1]).expect("room");
    let new = Version::start(&table, 2, true);
    let place = table.shards.place(b"a");
    let swept = table.shards.hold(place);
    assert_eq!(value(&new, b"a"), Some(vec![1, 2]));
    drop(swept);
    assert_eq!(table.census().rows, BTreeMap::from([(1, 1)]), "it was in the way");
    assert_eq!(value(&new, b"a"), Some(vec![1, 2]));
    assert_eq!(table.census().rows, BTreeMap::from([(2, 1)]));
    assert_counters_are_exact(&table);
}

/// Once, it looked beside such a swap: the row that was stored then had been decided on by
/// a control of before, and nobody looked at it again.
#[test]
fn a_pass_waits_for_a_swap_that_has_decided_and_not_stored_yet() {
    let (table, version) = committed(1);
    version.put(b"a", &[1]).expect("room");
    let swaps = table.shards.hold(table.shards.place(b"a"));
    thread::scope(|scope| {
        let (ended, has_ended) = channel();
        let (version, table) = (&version, &table);
        scope.spawn(move || ended.send((version.sweep(), table.losses())));
        let early = has_ended.recv_timeout(Duration::from_millis(200));
        drop(swaps);
        assert!(early.is_err(), "it ended beside the swap");
        assert!(has_ended.recv().expect("it does not panic").0.complete);
    });
}

/// Once, a scan ended at such a row, with what had been read before it in the same
/// batch.
#[test]
fn a_scan_says_of_a_row_that_it_cannot_read_and_goes_on_behind_it() {
    let (table, old) = committed(1);
    for key in 0..20_u8 {
        old.put(&[key], &[key]).expect("room");
    }
    let new = Version::start(&table, 2, false);
    for key in 20..30_u8 {
        new.put(&[key], &[key, 1]).expect("room");
    }
    let (rows, unread) = old.scan_all();
    assert_eq!((rows.len(), unread), (20, (20..30).map(|key| vec![key]).collect()));
}
