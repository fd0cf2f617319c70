//! Group commit: one thread that writes what many have queued, with one sync
//! for all of them.
//!
//! While the disk is busy with one group the next one gathers, so that nobody
//! waits for more than two syncs and a busy disk takes larger groups. A thread
//! of its own, and not the first of those who wait, because there may be nobody
//! who waits: asynchronous callers are woken, and sweeps do not care. Those are
//! woken by a second thread: a wake may be code of a plugin, and one that waits
//! for a change itself must not keep the first thread from writing it.

use super::error::TableStoreError;
use super::inventory::{TableId, Write};
use super::volume::Volume;
use crate::table::{Ticket, WhenDurable};
use crossbeam::channel::{self, Sender};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Changes in one commit at most.
const GROUP_WRITES: usize = 1024;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that may wait to be written before those who add to them have to wait.
/// Each of them may still add one change.
pub(super) const QUEUE_BYTES_MAX: usize = if cfg!(test) { 1024 * 1024 } else { 64 * 1024 * 1024 };

/// The queue, and the thread that empties it. Dropping it writes what is queued.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    volume: Volume,
    queue: Mutex<Queue>,
    /// There is something to write, or nothing ever again.
    work: Condvar,
    /// A group was written, or none will be.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    writes: VecDeque<(TableId, Write)>,
    /// What the writes take, with those of the group that is being written.
    bytes: usize,
    /// The ticket of the last change that was queued.
    queued: u64,
    /// The ticket of the last change that is durable.
    durable: u64,
    /// By ticket, and by their order under one.
    wakes: BTreeMap<(u64, usize), WhenDurable>,
    closing: bool,
    failed: Option<TableStoreError>,
}

impl Committer {
    pub(super) fn start(volume: Volume) -> std::io::Result<Committer> {
        let queue = Mutex::default();
        let shared = Arc::new(Shared { volume, queue, work: Condvar::new(), done: Condvar::new() });
        // Ends behind the last wake, and nobody waits for that.
        let (wakes, due) = channel::unbounded::<Wake>();
        thread::Builder::new().name("replug-wake".to_owned()).spawn(move || {
            for wake in due {
                // Of one that panics the others are to hear nothing.
                _ = catch_unwind(AssertUnwindSafe(wake));
            }
        })?;
        let thread = thread::Builder::new().name("replug-journal".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &wakes)
        })?;
        Ok(Committer { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn volume(&self) -> &Volume {
        &self.shared.volume
    }

    /// Queues a change. Never waits for the disk.
    pub(super) fn append(&self, table: TableId, write: Write) -> Result<Ticket, TableStoreError> {
        let mut queue = self.shared.queue.lock();
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        if queue.closing {
            return Err(self.shared.volume.closed());
        }
        queue.bytes += write.bytes();
        queue.writes.push_back((table, write));
        queue.queued += 1;
        let ticket = Ticket(queue.queued);
        let first = queue.writes.len() == 1;
        drop(queue);
        if first {
            self.shared.work.notify_one();
        }
        Ok(ticket)
    }

    /// Waits until the queue is shorter than it may be, or takes nothing more.
    pub(super) fn wait_for_room(&self) {
        let mut queue = self.shared.queue.lock();
        while !queue.has_room() {
            self.shared.done.wait(&mut queue);
        }
    }

    /// Whether that would not wait now, as far as can be told without waiting for that.
    pub(super) fn has_room(&self) -> bool {
        self.shared.queue.try_lock().is_some_and(|queue| queue.has_room())
    }

    /// Waits until the change, and all before it, are durable.
    pub(super) fn wait(&self, ticket: Ticket) -> Result<(), TableStoreError> {
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(outcome) = queue.outcome(ticket) {
                return outcome;
            }
            self.shared.done.wait(&mut queue);
        }
    }

    /// Calls `wake` when the change, and all before it, are durable: at once, or
    /// on a thread for that, in the order of tickets.
    pub(super) fn when_durable(&self, ticket: Ticket, wake: WhenDurable) {
        let mut queue = self.shared.queue.lock();
        if let Some(outcome) = queue.outcome(ticket) {
            drop(queue);
            wake(outcome.map_err(TableStoreError::into_journal_error));
            return;
        }
        let before = queue.wakes.range((ticket.0, 0)..=(ticket.0, usize::MAX)).next_back();
        let order = before.map_or(0, |((_, order), _)| order + 1);
        queue.wakes.insert((ticket.0, order), wake);
    }

    /// Writes what is queued, and takes nothing more.
    pub(super) fn close(&self) -> Result<(), TableStoreError> {
        self.shared.queue.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // Its panic is in the queue, as an error.
            _ = thread.join();
        }
        self.shared.volume.close()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "a table store did not close cleanly");
        }
    }
}

impl Queue {
    /// What has failed takes nothing, and keeps nobody waiting.
    fn has_room(&self) -> bool {
        self.bytes < QUEUE_BYTES_MAX || self.failed.is_some()
    }

    /// `None` while it is not known.
    fn outcome(&self, ticket: Ticket) -> Option<Result<(), TableStoreError>> {
        if ticket.0 <= self.durable {
            return Some(Ok(()));
        }
        self.failed.clone().map(Err)
    }

    /// What is written next, and the bytes that it takes.
    fn take_group(&mut self) -> (Vec<(TableId, Write)>, usize) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            let Some(write) = self.writes.pop_front() else { break };
            bytes += write.1.bytes();
            group.push(write);
        }
        (group, bytes)
    }

    /// The wakes whose outcome is known by now.
    fn take_wakes(&mut self) -> BTreeMap<(u64, usize), WhenDurable> {
        if self.failed.is_some() {
            return std::mem::take(&mut self.wakes);
        }
        let later = self.wakes.split_off(&(self.durable + 1, 0));
        std::mem::replace(&mut self.wakes, later)
    }
}

/// A call of somebody who waits, with what it is told.
type Wake = Box<dyn FnOnce() + Send>;

fn run(shared: &Shared, wakes: &Sender<Wake>) {
    let _end = End(shared, wakes);
    let mut queue = shared.queue.lock();
    loop {
        let (group, bytes) = queue.take_group();
        if group.is_empty() {
            if queue.closing {
                return;
            }
            shared.work.wait(&mut queue);
            continue;
        }
        drop(queue);
        let writes = group.len() as u64;
        let result = shared.volume.commit(group.into_iter());
        queue = shared.queue.lock();
        if let Err(error) = result {
            queue.failed = Some(error);
            return;
        }
        queue.durable += writes;
        queue.bytes -= bytes;
        shared.done.notify_all();
        wake(&mut queue, wakes);
    }
}

/// Hands over the wakes that are due.
fn wake(queue: &mut MutexGuard<'_, Queue>, wakes: &Sender<Wake>) {
    let due = queue.take_wakes();
    let failed = queue.failed.clone().map(TableStoreError::into_journal_error);
    for wake in due.into_values() {
        let outcome = failed.clone().map_or(Ok(()), Err);
        // The thread is there as long as this sender is.
        _ = wakes.send(Box::new(move || wake(outcome)));
    }
}

/// However the thread ends: nobody waits for it any more.
struct End<'a>(&'a Shared, &'a Sender<Wake>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.failed.get_or_insert_with(|| self.0.volume.closed());
        queue.writes.clear();
        self.0.done.notify_all();
        wake(&mut queue, self.1);
    }
}
