//! Work of the host on a thread of its own, which the command loop is told of
//! when it is done, and never waits for.

use crossbeam::channel::Sender;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A thread that works for the command loop.
pub(super) struct Job<T> {
    done: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Job<T> {
    /// Begins to `work`; the end of it, also by a panic, is told to `nudge`.
    ///
    /// # Errors
    /// The system cannot start a thread. Nobody is nudged: whoever tries again does so
    /// later.
    pub(super) fn start(
        name: &str,
        nudge: Sender<()>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Job<T>> {
        Job::start_on(thread::Builder::new().name(name.to_owned()), nudge, work)
    }

    fn start_on(
        thread: thread::Builder,
        nudge: Sender<()>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Job<T>> {
        let done = Arc::<AtomicBool>::default();
        let inside = Arc::clone(&done);
        let thread = thread.spawn(move || {
            // On the thread, so that there is no end where there is no beginning.
            let _end = End { done: inside, nudge };
            work()
        })?;
        Ok(Job { done, thread })
    }

    /// Whether the work is done; then [`join`](Self::join) waits for a moment at
    /// most.
    pub(super) fn is_done(&self) -> bool {
        // Relaxed: joining the thread orders what it has done.
        self.done.load(Ordering::Relaxed)
    }

    /// What came of it; nothing if it panicked.
    pub(super) fn join(self) -> Option<T> {
        self.thread.join().ok()
    }
}

/// Tells the end of the work when it is dropped.
struct End {
    done: Arc<AtomicBool>,
    nudge: Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // One nudge that waits says enough.
        let _ = self.nudge.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel;

    /// More than there are addresses.
    const STACK_BYTES: usize = 1 << 60;

    /// Once, the command loop tried again at once, for as long as there were no
    /// threads, and did nothing else.
    #[test]
    fn nobody_is_nudged_for_a_thread_that_could_not_be_had() {
        let (nudge, nudged) = channel::bounded(1);
        let on = thread::Builder::new().stack_size(STACK_BYTES);
        assert!(Job::start_on(on, nudge.clone(), || ()).is_err());
        assert!(nudged.is_empty());
        let job = Job::start("job", nudge, || ()).expect("there are threads");
        nudged.recv().expect("is told");
        assert!(job.is_done() && job.join().is_some());
    }
}
