//! SIGKILL at any moment: every change that was acknowledged is there, and none
//! by half.
//!
//! The child is this test program again, told by its environment where to write.
//! Each of its threads makes changes that follow from their number, and after
//! each that is acknowledged appends a byte to a file.

use super::*;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a line of a child for its parent contains.
pub(super) const CHILD: &str = "the child says: ";
const ROLE: &str = "REPLUG_TEST_TABLE_STORE_ROLE";
const FOLDER: &str = "REPLUG_TEST_TABLE_STORE_FOLDER";

/// This program, to run one test of this folder in a role.
pub(super) fn child_of(test: &str, role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    let test = format!("table_store::tests::{test}");
    command.args([&test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(FOLDER, folder);
    command
}

/// The folder that this process is to work in, if it is a child in this role.
pub(super) fn folder_of_child(role: &str) -> Option<PathBuf> {
    let is_it = std::env::var_os(ROLE).is_some_and(|value| value == role);
    is_it.then(|| std::env::var_os(FOLDER)).flatten().map(PathBuf::from)
}

const KILLS: u64 = 20;
const THREADS: u64 = 3;
/// Rows of a thread.
const SLOTS: u64 = 40;
/// Every so many changes one is of the record, by the first thread.
const CONTROL: u64 = 16;

/// Change `number` of a thread.
fn change(journal: &TableJournal, thread: u64, number: u64) {
    let key = key(thread, number % SLOTS);
    if thread == 0 && number % CONTROL == CONTROL - 1 {
        make(journal, &Change::Control(&control(number)));
    } else if number % 11 == 10 {
        make(journal, &Change::Remove { key: &key });
    } else {
        put(journal, &key, &value(number), number + 1);
    }
}

fn key(thread: u64, slot: u64) -> Vec<u8> {
    format!("{thread}-{slot}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 50)
}

fn control(number: u64) -> Record {
    Record { base: number as u32, generation: number as u32, ..Record::default() }
}

/// What `count` changes of a thread leave: its rows, and the record's base.
fn state_after(thread: u64, count: u64) -> (Rows, u32) {
    let (mut rows, mut base) = (Rows::new(), 0);
    for number in 0..count {
        let key = key(thread, number % SLOTS);
        if thread == 0 && number % CONTROL == CONTROL - 1 {
            base = control(number).base;
        } else if number % 11 == 10 {
            rows.remove(&key);
        } else {
            rows.insert(key, (number + 1, 1, value(number)));
        }
    }
    (rows, base)
}

fn acknowledged_file(folder: &Path, table: &str, thread: u64) -> PathBuf {
    folder.join(format!("{table}-{thread}"))
}

fn acknowledged(folder: &Path, table: &str, thread: u64) -> u64 {
    fs::metadata(acknowledged_file(folder, table, thread)).map_or(0, |file| file.len())
}

/// Changes both tables until it is killed; run in a process of its own.
#[test]
fn child_changes_tables_until_it_is_killed() {
    let Some(folder) = folder_of_child("killed") else { return };
    let opened = TableStore::open(folder.join("store"), TableStoreOptions::default()).expect("a sound store");
    thread::scope(|scope| {
        for kept in &opened.tables {
            for thread in 0..THREADS {
                let (journal, table) = (&kept.journal, kept.table.name());
                let mut number = acknowledged(&folder, table, thread);
                let path = acknowledged_file(&folder, table, thread);
                let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
                scope.spawn(move || {
                    loop {
                        change(journal, thread, number);
                        file.write_all(b".").expect("room");
                        number += 1;
                    }
                });
            }
        }
    });
}

/// Waits until each thread of the child has made a change.
fn wait_until_at_work(child: &mut Child, folder: &Path, before: &BTreeMap<(&str, u64), u64>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while before.iter().any(|((table, thread), count)| acknowledged(folder, table, *thread) <= *count) {
        assert!(Instant::now() < deadline, "the child makes no changes");
        assert_eq!(child.try_wait().expect("a child"), None, "the child ended");
        thread::sleep(Duration::from_millis(1)); // sleep: the wait is for another process
    }
}

#[test]
fn after_a_kill_at_any_moment_all_that_was_acknowledged_is_there_and_nothing_by_half() {
    let place = tempfile::tempdir().expect("a folder");
    let (folder, store) = (place.path(), place.path().join("store"));
    let opened = TableStore::open(&store, TableStoreOptions::default()).expect("a sound store");
    for (durability, name) in BOTH {
        opened.store.create(name, durability).expect("a new table");
    }
    drop(opened);
    let writers = || BOTH.iter().flat_map(|(_, table)| (0..THREADS).map(move |thread| (*table, thread)));
    for kill in 0..KILLS {
        let counts =
            || writers().map(|(table, thread)| ((table, thread), acknowledged(folder, table, thread)));
        let before = counts().collect();
        let mut child = child_of("killing::child_changes_tables_until_it_is_killed", "killed", folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("this program");
        wait_until_at_work(&mut child, folder, &before);
        // sleep: the moment of the kill is to be any
        thread::sleep(Duration::from_micros(kill * 7919 % 60_000));
        child.kill().expect("a child");
        child.wait().expect("a child");

        let opened = TableStore::open(&store, TableStoreOptions::default()).expect("a sound store");
        let found = tables(&opened);
        for ((table, thread), count) in counts() {
            let (rows, record) = &found[table];
            let prefix = format!("{thread}-").into_bytes();
            let rows: Rows = rows
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            // The change after the last acknowledged one may have been made.
            let fits = [count, count + 1].iter().any(|count| {
                let (expected, base) = state_after(thread, *count);
                rows == expected && (thread != 0 || record.base == base)
            });
            assert!(
                fits,
                "kill {kill}: thread {thread} of {table} after {count} changes has {} rows",
                rows.len()
            );
        }
    }
}
