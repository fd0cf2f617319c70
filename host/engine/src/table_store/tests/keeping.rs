//! What a store keeps from one opening to the next.

use super::*;
use crate::table::{Limits, NewImage, Void, Write};
use std::os::unix::fs::PermissionsExt;

#[test]
fn rows_and_records_are_there_again_however_often_it_is_opened() {
    let place = Place::new();
    let mut expected = BTreeMap::new();
    for (durability, name) in BOTH {
        place.open().store.create(name, durability).expect("a new table");
        expected.insert(name.to_owned(), (Rows::new(), Record::default()));
    }
    for round in 1..=12_u32 {
        let opened = place.open();
        for kept in &opened.tables {
            let (rows, record) = expected.get_mut(kept.table.name()).expect("a known table");
            let (key, value) = (vec![round as u8 % 5; 3], vec![round as u8; round as usize]);
            put(&kept.journal, &key, &value, round.into());
            rows.insert(key, (round.into(), 1, value));
            let gone = vec![round as u8 % 3; 3];
            make(&kept.journal, &Change::Remove { key: &gone });
            rows.remove(&gone);
            let voids = vec![Void { first: round, last: round, above: 3 }];
            let (downgrade_to, partial) = (round / 2, round % 2 == 0);
            *record = Record { base: round, downgrade_to, generation: round, newest: 4, voids, partial };
            make(&kept.journal, &Change::Control(record));
        }
        // Every other time the store is just left, as by the end of a process.
        if round % 2 == 0 {
            opened.store.close().expect("a sound store");
        }
        drop(opened);
        assert_eq!(tables(&place.open()), expected, "after round {round}");
    }
}

#[test]
fn an_image_is_kept_with_its_value() {
    let place = Place::new();
    let opened = place.open();
    let journal = opened.store.create("notes", Durability::Process).expect("a new table");
    for fresh in [true, false] {
        let image = Some(Image { schema: 1, bytes: b"in 1", fresh });
        let key = [u8::from(fresh)];
        make(&journal, &Change::Put(RowRef { schema: 2, image, ..row(&key, b"in 2", 1) }));
    }
    make(&journal, &Change::Control(&Record { base: 1, newest: 2, ..Record::default() }));
    drop((opened, journal));
    let opened = place.open();
    let (table, _) = only(&opened);
    for (schema, value) in [(1, b"in 1"), (2, b"in 2")] {
        let expected = (1, schema, value.to_vec());
        assert_eq!(rows_for(schema, table).into_values().collect::<Vec<_>>(), vec![expected; 2]);
    }
    assert_eq!(table.losses(), 1, "one image is stale");
}

#[test]
fn a_table_that_is_cleared_has_only_the_rows_since() {
    for (durability, name) in BOTH {
        let place = Place::new();
        let opened = place.open();
        let journal = opened.store.create(name, durability).expect("a new table");
        for turn in 0..3_u64 {
            for number in 0..600_u64 {
                journal.append(&Change::Put(row(&number.to_le_bytes(), b"old", turn + 1))).expect("sound");
            }
            make(&journal, &Change::Clear);
        }
        put(&journal, b"new", b"row", 9);
        drop((opened, journal));
        let opened = place.open();
        let expected = Rows::from([(b"new".to_vec(), (9, 1, b"row".to_vec()))]);
        assert_eq!(rows_for(NEWEST, only(&opened).0), expected, "{name}");
    }
}

#[test]
fn a_table_that_is_removed_leaves_the_others_and_its_name() {
    let place = Place::new();
    let opened = place.open();
    let [one, two, three] = ["one", "two", "three"].map(|name| {
        let durability = if name == "three" { Durability::Disk } else { Durability::Process };
        let journal = opened.store.create(name, durability).expect("a new table");
        put(&journal, b"key", name.as_bytes(), 1);
        journal
    });
    opened.store.remove("one").expect("a sound store");
    opened.store.remove("three").expect("a sound store");
    opened.store.remove("none").expect("nothing to do");
    for gone in [&one, &three] {
        assert!(gone.append(&Change::Put(row(b"late", b"", 2))).is_err());
    }
    put(&two, b"late", b"two", 2);
    let again = opened.store.create("one", Durability::Disk).expect("a free name");
    put(&again, b"key", b"again", 1);
    drop((opened, one, two, three, again));

    let found = tables(&place.open());
    let value = |name: &str, key: &[u8]| found[name].0.get(key).map(|(_, _, value)| value.clone());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(value("one", b"key"), Some(b"again".to_vec()));
    assert_eq!(found["one"].0.len(), 1);
    assert_eq!(value("two", b"key"), Some(b"two".to_vec()));
    assert_eq!(value("two", b"late"), Some(b"two".to_vec()));
}

#[test]
fn a_table_writes_through_its_journal_and_comes_back() {
    for (durability, name) in BOTH {
        let place = Place::new();
        let opened = place.open();
        let table = Table::new(name, Limits::NONE);
        table.attach(opened.store.create(name, durability).expect("a new table")).expect("a sound store");
        let view = View::new(&table, 1);
        view.activate().expect("a sound store");
        table.commit(1).expect("a sound store");
        for number in 0..100_u32 {
            let key = (number % 40).to_le_bytes();
            view.put(&key, &Write::new(&number.to_le_bytes())).expect("room");
        }
        let second = View::new(&table, 2);
        second.activate().expect("a sound store");
        let image = NewImage::Of { schema: 1, bytes: b"in 1" };
        let written = second.put(b"both", &Write { image, ..Write::new(b"in 2") }).expect("room");
        let crate::table::WriteOutcome::Written(written) = written else { panic!("{written:?}") };
        second.wait(written.ticket).expect("a sound store");
        let (expected, record) = (rows_for(2, &table), table.record());
        drop((opened, table, view, second));

        let opened = place.open();
        let (table, _) = only(&opened);
        assert_eq!((rows_for(2, table), table.record()), (expected, record));
        assert_eq!(rows_for(1, table)[&b"both".to_vec()].2, b"in 1");
    }
}

#[test]
fn rows_of_any_allowed_size_are_kept() {
    let place = Place::new();
    let opened = place.open();
    let journal = opened.store.create("large", Durability::Process).expect("a new table");
    let (key, value) = (vec![7; 1024], vec![9; 16 << 20]);
    let image = Some(Image { schema: 1, bytes: &value, fresh: true });
    make(&journal, &Change::Put(RowRef { schema: 2, image, ..row(&key, &value, 1) }));
    put(&journal, b"", b"", 2);
    drop((opened, journal));
    let opened = place.open();
    let rows = rows_for(2, only(&opened).0);
    assert_eq!(rows.len(), 2);
    assert!(rows[&key].2 == value);
}

#[test]
fn names_are_checked_and_given_once() {
    let place = Place::new();
    let opened = place.open();
    opened.store.create("notes", Durability::Process).expect("a new table");
    for durability in Durability::ALL {
        let error = opened.store.create("notes", durability).expect_err("a name that is taken");
        assert!(matches!(error, TableStoreError::Exists { .. }), "{error}");
    }
    for name in [String::new(), "n".repeat(129)] {
        let error = opened.store.create(&name, Durability::Process).expect_err("no name");
        assert!(matches!(error, TableStoreError::Name { .. }), "{error}");
    }
}

#[test]
fn a_store_is_closed_to_others() {
    let place = Place::new();
    let opened = place.open();
    opened.store.create("notes", Durability::Disk).expect("a new table");
    for folder in [place.folder(), place.folder().join("disk")] {
        let mode = fs::metadata(&folder).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
    let error = place.try_open().expect_err("a store in use");
    assert!(matches!(error, TableStoreError::Database { .. }), "{error}");
}

#[test]
fn a_store_that_is_closed_takes_nothing_and_can_be_opened_though_journals_are_left() {
    let place = Place::new();
    let opened = place.open();
    let journals = BOTH.map(|(durability, name)| opened.store.create(name, durability).expect("a new table"));
    for journal in &journals {
        put(journal, b"key", b"value", 1);
    }
    opened.store.close().expect("a sound store");
    opened.store.close().expect("nothing to do");
    for journal in &journals {
        journal.append(&Change::Clear).expect_err("a closed store");
    }
    assert!(tables(&place.open()).values().all(|(rows, _)| rows.len() == 1));
}

#[test]
fn a_volume_that_was_being_made_is_made_anew() {
    let place = Place::new();
    let unfinished = place.folder().join("process.new/rows");
    fs::create_dir_all(&unfinished).expect("a folder");
    fs::write(unfinished.join("half"), b"a file").expect("room");
    let opened = place.open();
    assert!(opened.tables.is_empty());
    assert!(!unfinished.exists());
    opened.store.create("notes", Durability::Process).expect("a new table");
}
