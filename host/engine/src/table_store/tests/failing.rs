//! Disks that are full or die: the first error is told to all, and is the end.

use super::super::seal::{Seal, Sealed};
use super::killing::{CHILD, child_of, folder_of_child};
use super::*;
use crate::failure::{Code, Failure};
use fjall::{OwnedWriteBatch, PersistMode};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

/// Fails from a certain call on, and counts how often it is called after that.
#[derive(Default)]
struct Dying {
    commit_fails: AtomicU32,
    seal_fails: AtomicU32,
    calls_after: AtomicU32,
}

impl Dying {
    fn after_death(&self, flag: &AtomicU32) -> bool {
        let dead = flag.load(SeqCst) != 0;
        self.calls_after.fetch_add(u32::from(dead), SeqCst);
        dead
    }
}

impl Disk for Dying {
    fn commit(&self, batch: OwnedWriteBatch, mode: PersistMode) -> fjall::Result<()> {
        if self.after_death(&self.commit_fails) {
            return Err(fjall::Error::Io(io::Error::from(ErrorKind::StorageFull)));
        }
        RealDisk.commit(batch, mode)
    }

    fn seal(&self, seal: &Seal, sealed: Sealed) -> Result<(), TableStoreError> {
        if self.after_death(&self.seal_fails) {
            let source = Arc::new(io::Error::from(ErrorKind::StorageFull));
            return Err(TableStoreError::Io { action: "write", path: "seal".into(), source });
        }
        RealDisk.seal(seal, sealed)
    }
}

/// Whether a cause of the error is a full disk.
fn says_full(error: &(dyn Error + 'static)) -> bool {
    let full = |error: &io::Error| error.kind() == ErrorKind::StorageFull;
    let own = error.downcast_ref::<io::Error>().is_some_and(full)
        || error.downcast_ref::<Arc<io::Error>>().is_some_and(|error| full(error))
        || matches!(error.downcast_ref::<Arc<fjall::Error>>().map(|error| &**error), Some(fjall::Error::Io(error)) if full(error));
    own || error.source().is_some_and(says_full)
}

#[test]
fn an_error_of_the_disk_is_final_and_told_to_everyone() {
    for (durability, name) in BOTH {
        for sealing in [false, true] {
            let place = Place::new();
            let disk = Arc::new(Dying::default());
            let opened = place.open_on(disk.clone());
            let journal = opened.store.create(name, durability).expect("a new table");
            let other = opened.store.create("other", durability).expect("a new table");
            put(&journal, b"kept", b"row", 1);
            let flag = if sealing { &disk.seal_fails } else { &disk.commit_fails };
            flag.store(1, SeqCst);

            let attempt = |journal: &TableJournal| {
                journal.append(&Change::Put(row(b"late", b"row", 2))).and_then(|ticket| journal.wait(ticket))
            };
            let error = attempt(&journal).expect_err("a full disk");
            assert!(says_full(&*error), "{error:?}");
            flag.store(0, SeqCst);
            for journal in [&journal, &other] {
                let again = attempt(journal).expect_err("a store that has failed");
                assert_eq!(again.to_string(), error.to_string());
            }
            assert_eq!(disk.calls_after.load(SeqCst), 1, "it was not tried again");
            let closed = opened.store.close().expect_err("a store that has failed");
            assert_eq!(closed.code(), Code::TableStoreFailed);

            drop((opened, journal, other));
            let found = tables(&place.open());
            assert!(found[name].0.contains_key(&b"kept"[..]), "what was acknowledged is there");
        }
    }
}

#[test]
fn all_who_wait_when_the_disk_fails_are_told() {
    let place = Place::new();
    let disk = Arc::new(Dying::default());
    let opened = place.open_on(disk.clone());
    let journal = opened.store.create("safe", Durability::Disk).expect("a new table");
    disk.commit_fails.store(1, SeqCst);
    let (told, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..8_u8 {
            let (journal, told) = (&journal, told.clone());
            scope.spawn(move || {
                let appended = journal.append(&Change::Put(row(&[number], b"row", 1)));
                if let Ok(ticket) = &appended {
                    let told = told.clone();
                    journal
                        .when_durable(*ticket, Box::new(move |outcome| told.send(outcome).expect("a test")));
                }
                told.send(appended.and_then(|ticket| journal.wait(ticket))).expect("a test");
            });
        }
    });
    drop((told, journal, opened));
    let outcomes: Vec<_> = outcomes.iter().collect();
    assert!(outcomes.len() >= 8);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| says_full(&**error))));
}

/// Writes until the system refuses; run in a process of its own.
#[test]
fn child_writes_until_the_system_refuses() {
    let Some(folder) = folder_of_child("full") else { return };
    let opened = TableStore::open(&folder, TableStoreOptions::default()).expect("a sound store");
    let (_, journal) = only(&opened);
    let refused = (0_u64..1_000_000).find_map(|number| {
        let key = number.to_le_bytes();
        let done =
            journal.append(&Change::Put(row(&key, &[1; 400], 1))).and_then(|ticket| journal.wait(ticket));
        done.err().map(|error| (number, error))
    });
    let (acknowledged, error) = refused.expect("a limit that is reached");
    assert!(error.downcast_ref::<TableStoreError>().is_some());
    let again = journal.append(&Change::Put(row(b"more", b"", 1))).and_then(|ticket| journal.wait(ticket));
    assert!(again.is_err(), "final");
    println!("{CHILD}{acknowledged}");
}

#[test]
fn a_store_that_the_system_gives_no_more_room_has_all_that_it_acknowledged() {
    for (durability, name) in BOTH {
        let place = Place::new();
        let opened = place.open();
        opened.store.create(name, durability).expect("a new table");
        opened.store.close().expect("a sound store");
        // No file may grow beyond 1,000 blocks, and the signal for that is off.
        let child = child_of("failing::child_writes_until_the_system_refuses", "full", &place.folder());
        let limited = "trap '' XFSZ; ulimit -f 1000; exec \"$@\"";
        let output = std::process::Command::new("sh")
            .args(["-c", limited, "sh"])
            .arg(child.get_program())
            .args(child.get_args())
            .envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said =
            text.lines().find_map(|line| line.split_once(CHILD)).map(|(_, number)| number.parse::<u64>());
        let Some(Ok(acknowledged)) = said else {
            panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        };
        assert!(acknowledged > 100, "{acknowledged} rows");
        let opened = place.open();
        let rows = rows_for(NEWEST, only(&opened).0);
        assert!((0..acknowledged).all(|number| rows.contains_key(&number.to_le_bytes()[..])));
        assert!(rows.len() as u64 <= acknowledged + 1);
    }
}
