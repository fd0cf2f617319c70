//! Stores that are gone, or older than they were: once, they were served as if
//! nothing had ever been in them.

use super::*;
use crate::failure::{Code, Failure};

fn open(place: &Place, accept_loss: bool) -> Result<OpenedStore, TableStoreError> {
    let witnesses = Some(place.0.path().join("witnesses/notes"));
    TableStore::open(place.folder(), TableStoreOptions { accept_loss, witnesses })
}

/// A row more in each table, which are made if they are not there.
fn write(opened: &OpenedStore, revision: u64) {
    for (durability, name) in BOTH {
        let kept = opened.tables.iter().find(|kept| kept.table.name() == name);
        let journal = kept.map(|kept| Arc::clone(&kept.journal));
        let made = || opened.store.create(name, durability).expect("a new table");
        put(&journal.unwrap_or_else(made), &revision.to_le_bytes(), b"value", revision);
    }
}

/// A store with a row in each table, and one more after a copy was made of it.
fn with_older_copy() -> (Place, Place) {
    let (place, copy) = (Place::new(), Place::new());
    let opened = open(&place, false).expect("a new store");
    write(&opened, 1);
    opened.store.close().expect("a sound store");
    copy_folder(&place.folder(), &copy.folder());
    let opened = open(&place, false).expect("a sound store");
    write(&opened, 2);
    // As a process that is killed leaves it.
    drop(opened);
    (place, copy)
}

fn rows(opened: &OpenedStore) -> Vec<usize> {
    tables(opened).values().map(|(rows, _)| rows.len()).collect()
}

fn refused(place: &Place) -> TableStoreError {
    let error = open(place, false).expect_err("it is not what it was");
    assert_eq!(error.code(), Code::TableStoreReplaced, "{error}");
    error
}

#[test]
fn a_store_that_is_gone_is_said_to_be_and_can_be_put_back() {
    for part in ["", "process", "disk"] {
        let (place, _) = with_older_copy();
        let away = Place::new();
        copy_folder(&place.folder().join(part), &away.folder());
        fs::remove_dir_all(place.folder().join(part)).expect("is there");
        let error = refused(&place).to_string();
        assert!(error.contains("notes/process") || error.contains("notes/disk"), "{error}");
        assert_eq!(place.folder().exists(), !part.is_empty(), "nothing is made in its place");
        copy_folder(&away.folder(), &place.folder().join(part));
        assert_eq!(rows(&open(&place, false).expect("is what it was")), [2, 2]);
    }
}

#[test]
fn an_older_copy_of_a_store_is_seen_and_nothing_of_it_is_served() {
    for durability in Durability::ALL {
        let (place, copy) = with_older_copy();
        let part = durability.folder();
        fs::remove_dir_all(place.folder().join(part)).expect("is there");
        copy_folder(&copy.folder().join(part), &place.folder().join(part));
        assert!(refused(&place).to_string().contains("lacks 1 commits"));
    }
}

#[test]
fn a_store_goes_on_without_what_is_missing_once_that_is_accepted() {
    let (place, copy) = with_older_copy();
    fs::remove_dir_all(place.folder()).expect("is there");
    copy_folder(&copy.folder(), &place.folder());
    refused(&place);
    assert_eq!(rows(&open(&place, true).expect("is accepted")), [1, 1]);
    assert_eq!(rows(&open(&place, false).expect("was accepted")), [1, 1]);

    fs::remove_dir_all(place.folder()).expect("is there");
    refused(&place);
    let opened = open(&place, true).expect("is accepted");
    assert!(opened.tables.is_empty());
    write(&opened, 3);
    drop(opened);
    assert_eq!(rows(&open(&place, false).expect("is what it was")), [1, 1]);
}

#[test]
fn a_store_that_nobody_has_seen_is_taken_as_it_is_and_seen_from_then_on() {
    for damage in [None, Some(&b"damaged"[..]), Some(&[7; 100])] {
        let (place, _) = with_older_copy();
        let witness = place.0.path().join("witnesses/notes/disk");
        match damage {
            None => fs::remove_file(&witness).expect("is there"),
            Some(bytes) => fs::write(&witness, bytes).expect("room"),
        }
        assert_eq!(rows(&open(&place, false).expect("is taken")), [2, 2]);
        fs::remove_dir_all(place.folder().join("disk")).expect("is there");
        refused(&place);
    }
}

/// Of what is not synced the machine may have written out the witness alone.
#[test]
fn what_a_power_loss_took_from_a_store_is_a_loss_and_no_older_copy() {
    let (place, copy) = with_older_copy();
    let part = Durability::Process.folder();
    fs::remove_dir_all(place.folder().join(part)).expect("is there");
    copy_folder(&copy.folder().join(part), &place.folder().join(part));
    let witnesses = Witnesses::in_folder(Some(place.0.path().join("witnesses/notes")));
    let ground = Ground { disk: Arc::new(RealDisk), boot: current_boot() ^ 1, witnesses };
    let error = TableStore::open_on(ground, &place.folder(), false).expect_err("rows are missing");
    assert_eq!(error.code(), Code::TableLoss, "{error}");
}
