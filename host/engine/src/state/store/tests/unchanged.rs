//! State that is what it was when it was saved last.

use super::*;

/// Once, an interval in which nothing happened pushed the snapshots out that
/// somebody wanted to go back to.
#[test]
fn state_that_has_not_changed_is_not_saved_again_and_pushes_nothing_out() {
    let options = StoreOptions { keep_newest: 2, ..StoreOptions::default() };
    let (folder, first) = store(options);
    save_all(&first, [1, 2]);
    let unchanged = |at| Envelope { taken_at_unix_ms: at, ..envelope(1, 2) };
    let save_changed = |store: &SnapshotStore, envelope: &Envelope| {
        let Saved { snapshot, is_new, problems } = store.save_changed(envelope).expect("is saved");
        assert!(problems.is_empty(), "{problems:?}");
        (snapshot.sequence(), is_new)
    };
    for at in 0..5 {
        assert_eq!(save_changed(&first, &unchanged(at)), (2, false));
    }
    assert_eq!((outcome(first.latest(PLUGIN)).0, files(&first).len()), (Some(2), 2));
    drop(first);

    // Also when another process had saved it.
    let again = SnapshotStore::open(folder.path().join("state"), options).expect("opens");
    assert_eq!(save_changed(&again, &unchanged(7)), (2, false));
    assert_eq!(save_changed(&again, &Envelope { schema_version: 2, ..unchanged(7) }), (3, true));
    assert_eq!(save_changed(&again, &unchanged(7)), (4, true), "the newest is of another schema");
    assert_eq!(save_changed(&again, &envelope(1, 3)), (5, true));
    assert_eq!(save(&again, &envelope(1, 3)).sequence(), 6, "that was asked for");
}

#[test]
fn state_is_saved_again_when_the_file_that_held_it_is_damaged_or_gone() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save(&store, &envelope(1, 1));
    fs::write(saved.path(), b"garbage").expect("can be written");
    let again = store.save_changed(&envelope(1, 1)).expect("is saved");
    assert!(again.is_new);
    fs::remove_file(again.snapshot.path()).expect("can be removed");
    assert!(store.save_changed(&envelope(1, 1)).expect("is saved").is_new);
    assert_eq!(outcome(store.latest(PLUGIN)).0, Some(1));
}
