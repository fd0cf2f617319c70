//! What leaves a plugin's tables as they were: threads that are at it, and work
//! for which there was no thread yet.
//!
//! Until all of it is done nothing else is begun with the plugin's tables, so
//! nothing of it may be forgotten. Data only: the command loop looks at it.

use super::job::Job;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Work that takes something back, and says whether that is done. May wait for a disk.
pub(super) type Undo = Box<dyn FnOnce() -> bool + Send>;

/// What is being taken back of a plugin's tables.
#[derive(Default)]
pub(super) struct Undoing {
    jobs: Vec<Job<bool>>,
    /// In the order in which it came.
    waiting: Vec<Undo>,
}

impl Undoing {
    /// Adds what is to be done, which begins with [`begin`](Self::begin).
    pub(super) fn add(&mut self, undo: Undo) {
        self.waiting.push(undo);
    }

    /// Begins with what waits for a thread, by `start`.
    ///
    /// # Errors
    /// There is none; what was not begun still waits.
    pub(super) fn begin(&mut self, start: impl Fn(Undo) -> io::Result<Job<bool>>) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let undo = Arc::new(Mutex::new(Some(self.waiting.remove(0))));
            let inside = Arc::clone(&undo);
            let take =
                |undo: &Mutex<Option<Undo>>| undo.lock().unwrap_or_else(PoisonError::into_inner).take();
            match start(Box::new(move || take(&inside).is_none_or(|undo| undo()))) {
                Ok(job) => self.jobs.push(job),
                Err(error) => {
                    // What was to be the thread's has gone, and this with it were it not shared.
                    self.waiting.splice(0..0, take(&undo));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && !self.is_at_work()
    }

    /// Whether all was taken back, once it is done; none if that is not known, because
    /// something panicked.
    pub(super) fn end(self) -> Option<bool> {
        let ends: Vec<Option<bool>> = self.jobs.into_iter().map(Job::join).collect();
        ends.into_iter().try_fold(true, |all, end| end.map(|end| all && end))
    }

    /// Whether a thread is at it.
    fn is_at_work(&self) -> bool {
        self.jobs.iter().any(|job| !job.is_done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel;
    use std::{
        sync::atomic::{AtomicU32, Ordering::SeqCst},
        thread,
        time::{Duration, Instant},
    };

    /// Once, what a refused version wrote was left to count.
    #[test]
    fn what_no_thread_could_be_had_for_waits_for_one_and_is_done_once() {
        let (mut undoing, done) = (Undoing::default(), Arc::new(AtomicU32::new(0)));
        for _ in 0..2 {
            let done = Arc::clone(&done);
            undoing.add(Box::new(move || {
                done.fetch_add(1, SeqCst);
                true
            }));
        }
        let refused = undoing.begin(|undo| {
            drop(undo);
            Err(io::ErrorKind::WouldBlock.into())
        });
        assert!(refused.is_err() && !undoing.is_done() && !undoing.is_at_work());
        undoing.begin(|undo| Job::start("undo", channel::bounded(1).0, undo)).expect("there are threads");
        let until = Instant::now() + Duration::from_secs(20);
        while !undoing.is_done() {
            assert!(Instant::now() < until, "it is done");
            thread::yield_now();
        }
        assert_eq!((done.load(SeqCst), undoing.end()), (2, Some(true)));
    }

    /// Once, whatever came of it, it was taken for done.
    #[test]
    fn what_failed_or_panicked_is_not_undone() {
        let end = |undos: [fn() -> bool; 2]| {
            let mut undoing = Undoing::default();
            undos.into_iter().for_each(|undo| undoing.add(Box::new(undo)));
            undoing.begin(|undo| Job::start("undo", channel::bounded(1).0, undo)).expect("there are threads");
            undoing.end()
        };
        assert_eq!(end([|| true, || true]), Some(true));
        assert_eq!(end([|| false, || true]), Some(false));
        assert_eq!(end([|| true, || panic!("as it should")]), None);
    }
}
