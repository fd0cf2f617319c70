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
    /// The system cannot start a thread.
    pub(super) fn start(
        name: &str,
        nudge: Sender<()>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Job<T>> {
        let done = Arc::<AtomicBool>::default();
        let end = End { done: Arc::clone(&done), nudge };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _end = end;
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
