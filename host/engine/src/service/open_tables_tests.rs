//! long: one test for each promise of a plugin's tables and of those that a version has open.

use super::{
    open_table::Fit,
    open_tables::OpenTables,
    plugin_tables::{Spec, TABLES_MAX, Tables, lock},
};
use crate::{
    failure::{Code, Failure},
    id::PluginName,
    table::{Change, Journal, JournalError, Limits, Ticket, Write},
    table_store::{TableStore, TableStoreOptions},
};
use replug_abi::Durability;
use std::sync::Arc;

fn name() -> PluginName {
    "sessions".parse().expect("a name")
}

fn tables() -> Arc<Tables> {
    Tables::new(Limits::NONE, "nowhere".into(), TableStoreOptions::default())
}

fn spec(schema: u32, steps: &[(u32, u32)]) -> Spec<'_> {
    Spec { name: "rows", schema, steps, durability: Durability::MEMORY, rows_max: 0, bytes_max: 0 }
}

#[test]
fn a_table_is_opened_while_the_version_is_prepared_and_once() {
    let tables = tables();
    let open = OpenTables::new(&name(), &tables);
    let first = open.open(&spec(1, &[])).expect("opens");
    let again = open.open(&spec(1, &[])).expect("is open");
    assert!(Arc::ptr_eq(&first, &again));
    let refused = |spec: &Spec<'_>| open.open(spec).expect_err("is refused").code();
    assert_eq!(refused(&spec(2, &[])), Code::TableSchema);
    assert_eq!(refused(&spec(1, &[(1, 3)])), Code::TableSchema, "no such step, and another table's");
    assert_eq!(refused(&Spec { name: "No", ..spec(1, &[]) }), Code::TableName);
    open.close();
    assert_eq!(refused(&spec(1, &[])), Code::TableNotOpen);
    assert_eq!(tables.of(&name()).len(), 1);
}

#[test]
fn rows_of_a_durable_table_are_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let durable = Spec { durability: Durability::PROCESS, ..spec(1, &[]) };
    let first = tables();
    assert!(first.load(&name()).expect("there is nothing").is_empty());
    let version = OpenTables::new(&name(), &first);
    let open = version.open(&durable).expect("opens");
    version.activate().expect("writes");
    open.view().put(b"key", &Write::new(b"value")).expect("is written");
    let refused = OpenTables::new(&name(), &first).open(&Spec { durability: Durability::DISK, ..durable });
    assert_eq!(refused.expect_err("is kept otherwise").code(), Code::TableSchema);
    drop((version, open));
    first.close().expect("closes");

    let second = tables();
    assert!(second.load(&name()).expect("is read").is_empty(), "no table lacks rows");
    assert_eq!(second.of(&name())[0].table.size().rows, 1);
    assert_eq!(second.of(&name())[0].durability, Durability::PROCESS);
    let open = OpenTables::new(&name(), &second).open(&spec(1, &[])).expect("asks for less");
    assert_eq!(open.view().size().rows, 1);
}

/// Once, the schema that was being gone down to was kept as the committed one:
/// the next start took all rows that had no image yet for nothing.
#[test]
fn a_downgrade_that_a_crash_cut_short_is_one_again_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let durable = |schema| Spec { durability: Durability::PROCESS, ..spec(schema, &[(1, 2), (2, 1)]) };
    let first = tables();
    let serving = OpenTables::new(&name(), &first);
    let open = serving.open(&durable(2)).expect("opens");
    serving.activate().expect("writes");
    serving.commit().expect("is the first");
    open.view().put(b"key", &Write::new(b"value")).expect("is written");
    open.view().table().prepare_downgrade(1).expect("is kept");
    assert!(!serving.is_committed());
    first.close().expect("closes");

    let second = tables();
    second.load(&name()).expect("is read");
    let earlier = OpenTables::new(&name(), &second).open(&durable(1)).expect("opens");
    assert_eq!((earlier.fit(), earlier.may_meet_newer_rows()), (Fit::Earlier, true));
    assert_eq!(earlier.view().table().losses(), 1);
}

#[test]
fn a_version_that_is_only_prepared_changes_nothing_for_the_one_that_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let first = OpenTables::new(&name(), &tables);
    let serves = Arc::clone(first.open(&spec(1, &[])).expect("opens").view());
    first.activate().expect("writes");
    serves.put(b"a", &Write::new(b"")).expect("is written");

    let durable = Spec { durability: Durability::PROCESS, rows_max: 1, ..spec(1, &[]) };
    let second = OpenTables::new(&name(), &tables);
    let tried = Arc::clone(second.open(&durable).expect("opens").view());
    serves.put(b"b", &Write::new(b"")).expect("the limit is not that of this version");
    assert_eq!(tables.of(&name())[0].durability, Durability::MEMORY);

    second.activate().expect("writes");
    assert_eq!(tables.of(&name())[0].durability, Durability::PROCESS);
    let refused = tried.put(b"c", &Write::new(b"")).expect_err("there are more rows than it allows");
    assert_eq!(refused.code(), Code::TableRowsMax);
    serves.put(b"c", &Write::new(b"")).expect("the limit is not that of this version");
}

#[test]
fn a_table_that_was_not_told_all_its_rows_is_not_restored_as_if_it_were_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let (first, durable) = (tables(), Spec { durability: Durability::PROCESS, ..spec(1, &[]) });
    let put = |version: &OpenTables, key: &[u8]| {
        version.activate().expect("writes");
        version.all()[0].view().put(key, &Write::new(b"")).expect("is written");
    };
    let serves = OpenTables::new(&name(), &first);
    serves.open(&spec(1, &[])).expect("opens");
    put(&serves, b"in memory");
    let next = OpenTables::new(&name(), &first);
    next.open(&durable).expect("opens");
    put(&next, b"in the store");
    drop((serves, next));
    first.close().expect("closes");

    let second = tables();
    assert_eq!(second.load(&name()).expect("is read"), ["rows"]);
    assert!(second.load(&name()).expect("was read").is_empty(), "it was said");
    assert_eq!(second.of(&name())[0].table.size().rows, 1);
}

#[test]
fn what_a_first_version_wrote_that_was_refused_does_not_count_and_what_served_stays() {
    for served in [false, true] {
        let tables = tables();
        let first = OpenTables::new(&name(), &tables);
        first.open(&spec(2, &[])).expect("opens");
        first.activate().expect("writes");
        let writes = |key| first.all()[0].view().put(key, &Write::new(b"")).map(drop);
        writes(b"early").expect("is written");
        if served { first.roll_back(None) } else { first.undo(None) }.expect("no journal");
        writes(b"late").expect("its last call does not fail");
        drop(first);

        let next = OpenTables::new(&name(), &tables);
        let view = Arc::clone(next.open(&spec(2, &[])).expect("opens").view());
        next.activate().expect("writes");
        view.put(b"own", &Write::new(b"")).expect("is written");
        let rows = tables.of(&name())[0].table.census().rows;
        assert_eq!(rows[&2], if served { 3 } else { 1 });
    }
}

/// Once, the names stayed, and when there were enough of them every version
/// was refused.
#[test]
fn tables_that_only_refused_versions_had_are_forgotten_and_leave_no_trace_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = || Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let first = tables();
    let open = |tables: &Arc<Tables>, table: &str, durability| {
        let version = OpenTables::new(&name(), tables);
        version.open(&Spec { name: table, durability, ..spec(1, &[]) }).expect("there is room");
        version
    };
    let serves = open(&first, "serves", Durability::PROCESS);
    serves.activate().expect("writes");
    for number in 0..TABLES_MAX + 1 {
        // In `prepare`, and after its activation.
        drop(open(&first, &format!("t{number}"), Durability::MEMORY));
        let refused = open(&first, &format!("u{number}"), Durability::MEMORY);
        refused.activate().expect("writes");
        refused.undo(Some(&serves)).expect("no journal");
        // Given up in its activation, which then went on; whatever that says.
        _ = refused.activate();
    }
    for _ in 0..2 {
        let refused = open(&first, "durable", Durability::PROCESS);
        refused.activate().expect("writes");
        refused.all()[0].view().put(b"key", &Write::new(b"")).expect("is written");
        refused.undo(Some(&serves)).expect("is written");
        // One that has not come to its activation has it open, too.
        let other = open(&first, "durable", Durability::MEMORY);
        drop(refused);
        assert_eq!(first.of(&name()).len(), 2);
        drop(other);
        assert_eq!(first.of(&name()).len(), 1);
    }
    // A version that left without being refused leaves its tables.
    drop(serves);
    assert_eq!(first.of(&name())[0].table.name(), "serves");
    first.close().expect("closes");
    let second = tables();
    assert!(second.load(&name()).expect("is read").is_empty());
    assert_eq!(second.of(&name()).len(), 1);
}

/// Once, an activation that was given up while it waited for a disk went on when
/// that answered, and what the refused version wrote counted.
#[test]
fn a_version_that_was_refused_cannot_be_activated_any_more() {
    let tables = tables();
    let refused = OpenTables::new(&name(), &tables);
    let view = Arc::clone(refused.open(&spec(1, &[])).expect("opens").view());
    refused.undo(None).expect("no journal");
    assert_eq!(refused.activate().expect_err("comes too late").code(), Code::TableNotActive);
    let written = view.put(b"key", &Write::new(b""));
    assert_eq!(written.expect_err("is not active").code(), Code::TableNotActive);
}

#[test]
fn tables_can_be_looked_at_while_the_disk_of_their_store_hangs() {
    let tables = tables();
    let version = OpenTables::new(&name(), &tables);
    version.open(&spec(1, &[])).expect("opens");
    let of = tables.plugin(&name());
    // As long as a disk takes.
    let _at_work = lock(&of.store);
    let (looked, look) = std::sync::mpsc::channel();
    let another = Arc::clone(&tables);
    std::thread::spawn(move || {
        let found = another.of(&name()).len();
        OpenTables::new(&name(), &another).open(&spec(2, &[])).expect("opens");
        // Whoever asked has given up, if it took too long.
        _ = looked.send(found);
    });
    assert_eq!(look.recv_timeout(std::time::Duration::from_secs(20)), Ok(1));
}

#[test]
fn whoever_comes_after_the_end_does_not_open_a_store_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = Tables::new(Limits::NONE, folder.path().to_owned(), TableStoreOptions::default());
    let durable = Spec { durability: Durability::DISK, ..spec(1, &[]) };
    let prepared = OpenTables::new(&name(), &tables);
    prepared.open(&durable).expect("opens");
    tables.close().expect("closes");

    let other = "other".parse().expect("a name");
    let late = [&name(), &other].map(|plugin| OpenTables::new(plugin, &tables).open(&durable));
    for refused in late {
        assert_eq!(refused.expect_err("it has ended").code(), Code::TableStoreFailed);
    }
    assert_eq!(prepared.activate().expect_err("it has ended").code(), Code::TableStoreFailed);
    assert!(!folder.path().join("other").exists());
    let again = TableStore::open(folder.path().join("sessions"), TableStoreOptions::default());
    assert!(again.expect("nobody has it").tables.is_empty());
}

/// Once, rows that a sweep had not got to were read by field name when the next
/// version did not know their schema any more.
#[test]
fn rows_are_out_of_reach_of_a_version_without_the_step_from_their_schema() {
    let tables = tables();
    let out_of_reach = |schema, steps: &[(u32, u32)]| {
        let open = OpenTables::new(&name(), &tables);
        open.open(&spec(schema, steps)).expect("opens").out_of_reach()
    };
    assert_eq!(out_of_reach(3, &[]), None, "there are no rows");
    let first = OpenTables::new(&name(), &tables);
    let view = Arc::clone(first.open(&spec(1, &[])).expect("opens").view());
    first.activate().expect("writes");
    first.commit().expect("is the first");
    assert_eq!(out_of_reach(3, &[(2, 3), (3, 2), (2, 1)]), Some(1), "it serves beside the first");
    view.put(b"key", &Write::new(b"")).expect("is written");
    assert_eq!(out_of_reach(3, &[(2, 3)]), Some(1));
    assert_eq!(out_of_reach(3, &[(1, 2), (2, 3)]), None);
    view.clear().expect("is written");
    assert_eq!(out_of_reach(3, &[(2, 3)]), None, "there are none any more");
}

#[test]
fn how_a_version_fits_follows_from_the_committed_schema_and_its_steps() {
    let tables = tables();
    let serves = OpenTables::new(&name(), &tables);
    serves.open(&spec(3, &[])).expect("opens");
    let fit = |schema, steps: &[(u32, u32)]| {
        let open = OpenTables::new(&name(), &tables);
        open.open(&spec(schema, steps)).expect("opens").fit()
    };
    assert_eq!(fit(3, &[]), Fit::Same, "nothing is committed yet");
    tables.of(&name())[0].table.commit(2).expect("commits");
    assert_eq!(fit(2, &[]), Fit::Same);
    assert_eq!(fit(4, &[(3, 4), (4, 3), (3, 2)]), Fit::Later);
    assert_eq!(fit(4, &[(3, 4), (4, 3)]), Fit::OneWay);
    assert_eq!(fit(1, &[]), Fit::Earlier);
}

/// A store that fails when there is something to be taken back.
struct FailsLater;

impl Journal for FailsLater {
    fn append(&self, change: &Change<'_>) -> Result<Ticket, JournalError> {
        match change {
            Change::Control(record) if !record.voids.is_empty() => Err(Arc::from(Box::from("no room"))),
            _ => Ok(Ticket::NONE),
        }
    }

    fn wait(&self, _: Ticket) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Once, the first store that failed was the end of it, and what a refused version had
/// written to the tables behind it counted.
#[test]
fn what_a_version_wrote_is_taken_back_where_it_can_be_also_behind_a_store_that_failed() {
    let tables = tables();
    let open_both = |schema| {
        let version = OpenTables::new(&name(), &tables);
        let _both =
            ["first", "then"].map(|name| version.open(&Spec { name, ..spec(schema, &[]) }).expect("opens"));
        version
    };
    let serves = open_both(1);
    serves.activate().expect("writes");
    serves.commit().expect("is the first");
    let refused = open_both(2);
    refused.activate().expect("writes");
    let [first, then] = ["first", "then"].map(|name| refused.find(name).expect("is open"));
    first.view().table().attach(Arc::new(FailsLater)).expect("takes the record");
    assert_eq!(refused.undo(Some(&serves)).expect_err("no room").code(), Code::TableStoreFailed);
    assert_eq!(then.view().table().record().voids.len(), 1);
}
