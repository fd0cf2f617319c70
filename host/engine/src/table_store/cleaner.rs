//! Takes rows that are of no table any more off the disk, in the background.
//!
//! A table is cleared by one small record; its rows are removed here, in small
//! batches with a pause between them, so that writers keep the disk. What is not
//! done when the process ends is found, and done, when the volume is opened
//! again. Nothing depends on it but room.

use super::format::space_prefix;
use super::inventory::Remains;
use fjall::{Database, Keyspace};
use std::ops::Bound;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const BATCH_ROWS: usize = 256;
/// Between batches: at most a quarter of a million rows a second.
const PAUSE: Duration = Duration::from_millis(1);

/// The thread, which begins with the first work and ends when this is dropped.
pub(super) struct Cleaner {
    work: Option<Sender<Remains>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cleaner {
    pub(super) fn start(database: Database, rows: Keyspace) -> std::io::Result<Cleaner> {
        let (work, remains) = channel::<Remains>();
        let (stop, stopped) = channel();
        let run = move || {
            for Remains { space, index } in remains {
                drop(index);
                if clean(&database, &rows, space, &stopped).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("replug-clean".into()).spawn(run)?;
        Ok(Cleaner { work: Some(work), stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn clean(&self, remains: Remains) {
        if let Some(work) = &self.work {
            // A thread that has ended met an error, or was told to end.
            _ = work.send(remains);
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.stop = None;
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It only panics if the database does.
            _ = thread.join();
        }
    }
}

/// The work is to end: told so, or by an error that the next commit meets too.
struct Ended;

fn clean(database: &Database, rows: &Keyspace, space: u64, stopped: &Receiver<()>) -> Result<(), Ended> {
    let (mut from, end) = (Bound::Included(space_prefix(space)), space_prefix(space + 1));
    loop {
        let range = (from, Bound::Excluded(end.clone()));
        let keys: Vec<_> = rows
            .range(range)
            .take(BATCH_ROWS)
            .map(|row| row.key())
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let Some(last) = keys.last() else { return Ok(()) };
        from = Bound::Excluded(last.to_vec());
        let mut batch = database.batch();
        for key in keys {
            batch.remove(rows, key);
        }
        batch.commit().map_err(failed)?;
        if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            return Err(Ended);
        }
    }
}

fn failed(error: fjall::Error) -> Ended {
    tracing::warn!(%error, "rows of cleared tables stay on the disk");
    Ended
}
