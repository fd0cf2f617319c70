//! The store under faults: damaged files, a failing disk, a crash in between.

mod unchanged;

use super::disk::Disk;
use super::portable::write_export_on;
use super::*;
use crate::failure::{Code, Failure};
use crate::state::envelope::EnvelopeError;
use semver::Version;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const PLUGIN: &str = "counter";

fn envelope(schema_version: u32, number: u8) -> Envelope {
    Envelope {
        plugin: PLUGIN.into(),
        schema_version,
        plugin_version: Version::new(1, 0, u64::from(number)),
        taken_at_unix_ms: 1_732_150_000_000,
        payload: vec![number; 100],
    }
}

fn store(options: StoreOptions) -> (TempDir, SnapshotStore) {
    let folder = TempDir::new().expect("a temporary folder");
    let store = SnapshotStore::open(folder.path().join("state"), options).expect("opens");
    (folder, store)
}

/// Saves snapshots of schema 1 with the given numbers.
fn save_all(store: &SnapshotStore, numbers: impl IntoIterator<Item = u8>) -> Vec<Snapshot> {
    numbers.into_iter().map(|number| save(store, &envelope(1, number))).collect()
}

fn save(store: &SnapshotStore, envelope: &Envelope) -> Snapshot {
    let saved = store.save(envelope).expect("is saved");
    assert!(saved.problems.is_empty(), "{:?}", saved.problems);
    saved.snapshot
}

/// The number of the snapshot that a lookup found, and its problems.
fn outcome(lookup: Result<Lookup, StoreError>) -> (Option<u8>, Vec<StoreError>) {
    let lookup = lookup.expect("the search itself works");
    (lookup.found.map(|found| found.envelope.payload[0]), lookup.problems)
}

fn files(store: &SnapshotStore) -> Vec<PathBuf> {
    entries(&store.folder.join(PLUGIN)).expect("can be listed")
}

#[test]
fn the_newest_snapshot_is_found_even_if_the_wall_clock_jumps_back() {
    let (_folder, store) = store(StoreOptions::default());
    assert_eq!(outcome(store.latest(PLUGIN)).0, None);
    save(&store, &envelope(1, 1));
    save(&store, &Envelope { taken_at_unix_ms: 5, ..envelope(1, 2) });
    assert_eq!(outcome(store.latest(PLUGIN)).0, Some(2));
    assert_eq!(outcome(store.latest("other")).0, None);
}

#[test]
fn what_was_saved_is_found_after_the_store_is_opened_again() {
    let (folder, first) = store(StoreOptions::default());
    save_all(&first, [1, 2]);
    save(&first, &envelope(2, 3));
    drop(first);
    let again = SnapshotStore::open(folder.path().join("state"), StoreOptions::default());
    let again = again.expect("opens");
    assert_eq!(outcome(again.latest(PLUGIN)).0, Some(3));
    assert_eq!(outcome(again.latest_of_schema(PLUGIN, 1)).0, Some(2));
    assert_eq!(outcome(again.latest_of_schema(PLUGIN, 7)).0, None);
    assert_eq!(save(&again, &envelope(2, 4)).sequence(), 4);
}

#[test]
fn a_snapshot_with_a_flipped_bit_is_reported_and_the_older_one_is_used() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save_all(&store, [1, 2, 3]);
    let mut bytes = fs::read(saved[2].path()).expect("can be read");
    bytes[80] ^= 0x10;
    fs::write(saved[2].path(), bytes).expect("can be written");

    let (found, problems) = outcome(store.latest(PLUGIN));
    assert_eq!(found, Some(2));
    let [problem @ StoreError::Envelope { path, source }] = &problems[..] else {
        panic!("one damaged envelope, not {problems:?}");
    };
    assert_eq!(path, saved[2].path());
    assert!(matches!(source, EnvelopeError::Digest { .. }));
    assert_eq!(problem.code(), Code::StateCorrupt);
}

#[test]
fn a_truncated_and_an_empty_snapshot_are_reported_and_the_older_one_is_used() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save_all(&store, [1, 2, 3]);
    let bytes = fs::read(saved[1].path()).expect("can be read");
    fs::write(saved[1].path(), &bytes[..bytes.len() / 2]).expect("can be written");
    fs::write(saved[2].path(), b"").expect("can be written");

    let (found, problems) = outcome(store.latest(PLUGIN));
    assert_eq!((found, problems.len()), (Some(1), 2));
}

#[test]
fn if_every_snapshot_is_damaged_none_is_served_and_all_are_reported() {
    let (_folder, store) = store(StoreOptions::default());
    for snapshot in save_all(&store, [1, 2]) {
        fs::write(snapshot.path(), b"garbage").expect("can be written");
    }
    let (found, problems) = outcome(store.latest(PLUGIN));
    assert_eq!((found, problems.len()), (None, 2));
}

#[test]
fn a_snapshot_that_is_not_what_its_name_says_is_reported() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save_all(&store, [1, 2]);
    fs::copy(saved[0].path(), saved[1].path()).expect("can be copied");
    let foreign = store.folder.join(PLUGIN).join("backup.state");
    fs::copy(saved[0].path(), &foreign).expect("can be copied");

    let (found, problems) = outcome(store.latest(PLUGIN));
    assert_eq!(found, Some(1));
    let named = |path: &Path| {
        problems.iter().any(|problem| match problem {
            StoreError::Misplaced { path: named, .. } | StoreError::ForeignName { path: named } => {
                named == path
            }
            _ => false,
        })
    };
    assert!(named(saved[1].path()) && named(&foreign), "{problems:?}");

    let stranger = store.folder.join("stranger");
    fs::create_dir(&stranger).expect("can be made");
    let name = saved[0].path().file_name().expect("has a name");
    fs::copy(saved[0].path(), stranger.join(name)).expect("can be copied");
    let (found, problems) = outcome(store.latest("stranger"));
    assert_eq!(found, None);
    assert!(matches!(&problems[..], [StoreError::Misplaced { plugin, .. }] if plugin == PLUGIN));
}

#[test]
fn a_snapshot_is_found_by_its_number_and_without_one_as_a_start_would() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save_all(&store, [1, 2, 3]);
    fs::write(saved[2].path(), b"garbage").expect("can be written");
    let number = |sequence| store.find(PLUGIN, sequence).map(|found| found.envelope.payload[0]);
    assert_eq!(number(Some(1)).expect("is sound"), 1);
    assert_eq!(number(None).expect("2 is sound"), 2);
    assert!(matches!(number(Some(3)), Err(StoreError::Envelope { .. })), "it was asked for");
    let unknown = number(Some(9)).expect_err("is not there");
    assert_eq!(unknown.to_string(), "there is no snapshot 9 of counter; there are: 3, 2, 1");
    assert_eq!(unknown.code(), Code::StateUnknownSnapshot);
    let none = store.find("nobody", None).expect_err("has none");
    assert_eq!(none.to_string(), "there is no snapshot of nobody");
}

#[test]
fn all_snapshots_are_listed_with_what_they_hold_or_what_is_wrong_with_them() {
    let (_folder, store) = store(StoreOptions::default());
    let saved = save_all(&store, [1, 2]);
    let mut bytes = fs::read(saved[0].path()).expect("can be read");
    bytes[70] ^= 1;
    fs::write(saved[0].path(), &bytes).expect("can be written");
    assert_eq!(store.plugins().expect("can be listed"), [PLUGIN]);
    let all = store.examine(PLUGIN).expect("can be listed");
    let [newer, older] = &all[..] else { panic!("{all:?}") };
    let sound = newer.content.as_ref().expect("is sound");
    assert_eq!((newer.snapshot.sequence(), sound.state_bytes), (2, 100));
    assert_eq!(sound.plugin_version, Version::new(1, 0, 2));
    assert!(newer.snapshot.path().to_string_lossy().contains(&sound.sha256[..8]));
    assert_eq!(older.file_bytes, bytes.len() as u64);
    let damage = older.content.as_ref().expect_err("is damaged");
    assert_eq!(damage.code(), Code::StateCorrupt);
}

#[test]
fn an_exported_file_is_imported_and_nothing_else_is() {
    let (folder, first) = store(StoreOptions::default());
    save_all(&first, [1, 2]);
    let exported = first.export(PLUGIN, Some(1)).expect("is sound");
    let file = folder.path().join("counter.state");
    write_export(&file, b"older").expect("writes");
    write_export(&file, &exported.bytes).expect("replaces");
    let mode = fs::metadata(&file).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode, entries(folder.path()).expect("lists").len()), (0o600, 2), "no part is left");

    let bytes = fs::read(&file).expect("can be read");
    assert_eq!(first.check_import(PLUGIN, &bytes, false).expect("is sound"), envelope(1, 1));
    let refused = |plugin, bytes: &[u8]| first.check_import(plugin, bytes, false).expect_err("is refused");
    let foreign = refused("gauge", &bytes);
    assert_eq!(foreign.to_string(), "this is a snapshot of \"counter\", not of \"gauge\"");
    assert_eq!(foreign.code(), Code::StateForeign);
    let taken = first.check_import("gauge", &bytes, true).expect("may be foreign");
    assert_eq!(taken, Envelope { plugin: "gauge".into(), ..envelope(1, 1) });
    for damaged in [&b""[..], b"text", &bytes[..bytes.len() - 1]] {
        assert_eq!(refused(PLUGIN, damaged).code(), Code::StateBadImport);
    }
    let (_folder, small) = store(StoreOptions { max_state_bytes: 50, ..StoreOptions::default() });
    let above = small.check_import(PLUGIN, &bytes, false).expect_err("is above the limit");
    assert_eq!(above.code(), Code::StateTooLarge);
}

#[test]
fn the_newest_and_the_newest_of_each_schema_are_kept() {
    let (_folder, store) = store(StoreOptions { keep_newest: 2, ..StoreOptions::default() });
    for (schema, number) in [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6), (3, 7)] {
        save(&store, &envelope(schema, number));
    }
    let kept: Vec<_> = store
        .list(PLUGIN)
        .expect("can be listed")
        .iter()
        .map(|snapshot| (snapshot.sequence(), snapshot.schema_version()))
        .collect();
    assert_eq!(kept, [(7, 3), (6, 3), (4, 2), (2, 1)]);
    assert_eq!(outcome(store.latest_of_schema(PLUGIN, 1)).0, Some(2));
}

#[test]
fn oversized_state_is_refused_when_it_is_saved_and_when_it_is_loaded() {
    let (folder, first) = store(StoreOptions { max_state_bytes: 100, ..StoreOptions::default() });
    save(&first, &envelope(1, 1));
    let error = first.save(&Envelope { payload: vec![0; 101], ..envelope(1, 2) });
    let error = error.expect_err("too large");
    assert!(matches!(error, StoreError::TooLarge { size: 101, limit: 100, .. }));
    assert_eq!(error.code(), Code::StateTooLarge);
    assert_eq!((outcome(first.latest(PLUGIN)).0, files(&first).len()), (Some(1), 1));

    // An older snapshot must not stand in for one above a lowered limit.
    let newest = save(&first, &envelope(1, 3));
    fs::write(newest.path(), vec![0; 300_000]).expect("can be written");
    let again = SnapshotStore::open(folder.path().join("state"), first.options).expect("opens");
    assert!(matches!(again.latest(PLUGIN), Err(StoreError::TooLarge { size: 300_000, .. })));
}

#[test]
fn files_and_folders_are_closed_to_others() {
    let (_folder, store) = store(StoreOptions::default());
    let snapshot = save(&store, &envelope(1, 1));
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&store.folder), 0o700);
    assert_eq!(mode(&store.folder.join(PLUGIN)), 0o700);
    assert_eq!(mode(snapshot.path()), 0o600);
}

#[test]
fn a_plugin_name_that_would_leave_the_store_is_refused() {
    let (_folder, store) = store(StoreOptions::default());
    let envelope = Envelope { plugin: "../escape".into(), ..envelope(1, 1) };
    assert!(matches!(store.save(&envelope), Err(StoreError::PluginName { .. })));
    assert!(matches!(store.latest("../escape"), Err(StoreError::PluginName { .. })));
}

#[test]
fn what_a_crash_left_of_a_save_is_removed_when_the_store_is_opened() {
    let (folder, first) = store(StoreOptions::default());
    save(&first, &envelope(1, 1));
    let (_, temporary) = Name::new(2, 0, 1, &[0; 32]).paths(&first.folder.join(PLUGIN));
    fs::write(&temporary, b"half of a sna").expect("can be written");
    assert_eq!(outcome(first.latest(PLUGIN)).0, Some(1));

    let again = SnapshotStore::open(folder.path().join("state"), first.options).expect("opens");
    assert!(!temporary.exists());
    assert_eq!(outcome(again.latest(PLUGIN)).0, Some(1));
}

/// Where a save can fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
}

/// Fails one call with one error while it is armed.
struct FaultyDisk {
    call: Call,
    kind: ErrorKind,
    armed: Arc<AtomicBool>,
}

impl FaultyDisk {
    fn fault(&self, call: Call) -> io::Result<()> {
        // Relaxed: set and read by the same thread.
        match self.call == call && self.armed.load(Ordering::Relaxed) {
            true => Err(self.kind.into()),
            false => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.fault(Call::Create)?;
        RealDisk.create(path)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let fault = self.fault(Call::Write);
        let fits = if fault.is_err() { bytes.len() / 2 } else { bytes.len() };
        RealDisk.write(file, &bytes[..fits])?;
        fault
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.fault(Call::Sync)?;
        RealDisk.sync(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault(Call::Rename)?;
        RealDisk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.fault(Call::SyncFolder)?;
        RealDisk.sync_folder(folder)
    }
}

/// A store with one snapshot whose next save fails as told.
fn failing_store(call: Call, kind: ErrorKind) -> (TempDir, SnapshotStore, Arc<AtomicBool>) {
    let folder = TempDir::new().expect("a temporary folder");
    let armed = Arc::new(AtomicBool::new(false));
    let disk = FaultyDisk { call, kind, armed: Arc::clone(&armed) };
    let options = StoreOptions { keep_newest: 1, ..StoreOptions::default() };
    let store = SnapshotStore::open_on(Box::new(disk), folder.path().join("state"), options);
    let store = store.expect("opens");
    save(&store, &envelope(1, 1));
    armed.store(true, Ordering::Relaxed);
    (folder, store, armed)
}

#[test]
fn a_full_disk_leaves_the_previous_snapshot_intact() {
    for call in [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::SyncFolder] {
        let (_folder, store, armed) = failing_store(call, ErrorKind::StorageFull);
        let before = files(&store);
        let error = store.save(&envelope(1, 2)).expect_err("the disk is full");
        assert_eq!(error.code(), Code::StateStore, "{call:?}");
        assert_eq!(files(&store), before, "{call:?} must leave no file behind");
        assert_eq!(outcome(store.latest(PLUGIN)).0, Some(1), "{call:?}");

        // Space was made: the same store saves again.
        armed.store(false, Ordering::Relaxed);
        save(&store, &envelope(1, 3));
        assert_eq!(outcome(store.latest(PLUGIN)).0, Some(3), "{call:?}");
    }
}

#[test]
fn an_export_to_a_full_disk_leaves_no_part_and_the_file_that_was_there() {
    for call in [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::SyncFolder] {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("counter.state");
        fs::write(&file, b"older").expect("can be written");
        let disk = FaultyDisk { call, kind: ErrorKind::StorageFull, armed: Arc::new(true.into()) };
        let error = write_export_on(&disk, &file, b"newer").expect_err("the disk is full");
        assert_eq!(error.code(), Code::StateStore, "{call:?}");
        assert_eq!(entries(folder.path()).expect("lists"), std::slice::from_ref(&file), "{call:?}");
        // Renamed before the folder failed: whole, though not confirmed.
        let whole = if call == Call::SyncFolder { &b"newer"[..] } else { b"older" };
        assert_eq!(fs::read(&file).expect("is there"), whole, "{call:?}");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_saved_until_the_store_is_opened_again() {
    for call in [Call::Sync, Call::SyncFolder] {
        let (folder, store, armed) = failing_store(call, ErrorKind::Other);
        let error = store.save(&envelope(1, 2)).expect_err("the sync fails");
        assert!(matches!(error, StoreError::Sync { .. }), "{error:?}");
        armed.store(false, Ordering::Relaxed);
        let error = store.save(&envelope(1, 3)).expect_err("is not trusted any more");
        assert!(matches!(error, StoreError::SyncFailed { .. }), "{error:?}");
        assert_eq!(outcome(store.latest(PLUGIN)).0, Some(1));

        let again = SnapshotStore::open(folder.path().join("state"), store.options).expect("opens");
        save(&again, &envelope(1, 4));
        assert_eq!(outcome(again.latest(PLUGIN)).0, Some(4));
    }
}

#[test]
fn the_first_failed_create_does_not_condemn_the_store() {
    let (_folder, store, armed) = failing_store(Call::Create, ErrorKind::PermissionDenied);
    assert!(matches!(store.save(&envelope(1, 2)), Err(StoreError::Io { action: "create", .. })));
    armed.store(false, Ordering::Relaxed);
    save(&store, &envelope(1, 3));
}
