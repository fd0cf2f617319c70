//! Threads of a plugin that the host can stop and wait for.

use crate::{Error, Result};
use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Tells a thread of a plugin when to end.
///
/// [`Context::spawn`](crate::Context::spawn) gives one to each thread.
///
/// ```
/// use replug_plugin_api::StopSignal;
/// use std::time::Duration;
///
/// fn poll(stop: &StopSignal) {
///     // Every second, and no longer than it has to.
///     while !stop.wait(Duration::from_secs(1)) {
///         // look whether there is something to do
///     }
/// }
/// ```
#[derive(Clone)]
pub struct StopSignal {
    shared: Arc<Shared>,
}

impl StopSignal {
    /// Whether the thread is asked to end.
    pub fn is_stopped(&self) -> bool {
        self.shared.lock().stopping
    }

    /// Sleeps for a time, or until the thread is asked to end. Returns whether
    /// it is.
    pub fn wait(&self, time: Duration) -> bool {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, time, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopping
    }
}

#[derive(Default)]
pub(crate) struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    running: Vec<(u64, String)>,
    next: u64,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    pub(crate) fn spawn<F>(&self, name: &str, body: F) -> Result<()>
    where
        F: FnOnce(StopSignal) + Send + 'static,
    {
        self.spawn_by(thread::Builder::new(), name, body)
    }

    fn spawn_by<F>(&self, builder: thread::Builder, name: &str, body: F) -> Result<()>
    where
        F: FnOnce(StopSignal) + Send + 'static,
    {
        let failed = |reason: &dyn std::fmt::Display| {
            Error::new("spawn.failed", format!("cannot start thread {name:?}: {reason}"))
        };
        if name.contains('\0') {
            return Err(failed(&"the name has a NUL in it"));
        }
        let id = self.count_in(name)?;
        // Whether the thread ends or never starts, this is dropped, and takes
        // the lock: it must not be held here.
        let ended = Ended { shared: Arc::clone(&self.shared), id };
        let signal = StopSignal { shared: Arc::clone(&self.shared) };
        builder
            .name(name.to_owned())
            .spawn(move || {
                let _ended = ended;
                body(signal);
            })
            .map(drop)
            .map_err(|error| failed(&error))
    }

    /// Enters a thread that is about to start; its id.
    fn count_in(&self, name: &str) -> Result<u64> {
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(Error::new(
                "spawn.stopping",
                format!("cannot start thread {name:?}: the plugin is stopping"),
            ));
        }
        let id = state.next;
        state.next += 1;
        state.running.push((id, name.to_owned()));
        Ok(id)
    }

    /// Asks all threads to end and waits until their closures have returned. On
    /// expiry the names of those that still run.
    ///
    /// Threads are not joined: their thread-local destructors may block, and
    /// the host counts every thread until its very end anyway.
    pub(crate) fn stop(&self, wait: Duration) -> Result<(), Vec<String>> {
        let until = Instant::now() + wait;
        let mut state = self.shared.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
        while !state.running.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(state.running.iter().map(|(_, name)| name.clone()).collect());
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// Counts a thread out, also when its closure panics.
struct Ended {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.lock().running.retain(|(id, _)| *id != self.id);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_ends_threads_that_watch_the_signal() {
        let tasks = Tasks::default();
        for _ in 0..3 {
            tasks.spawn("worker", |stop| while !stop.wait(Duration::from_secs(60)) {}).expect("spawn");
        }
        assert_eq!(tasks.stop(Duration::from_secs(30)), Ok(()));
        assert!(tasks.spawn("late", |_| {}).is_err());
    }

    #[test]
    fn stop_names_threads_that_do_not_end() {
        let tasks = Tasks::default();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        tasks.spawn("deaf", move |_| while wait.recv().is_ok() {}).expect("spawn");
        assert_eq!(tasks.stop(Duration::from_millis(1)), Err(vec!["deaf".to_owned()]));
        drop(release);
    }

    /// The second list was empty, and the threads were joined without a bound.
    #[test]
    fn a_second_stop_names_them_again() {
        let tasks = Tasks::default();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        tasks.spawn("deaf", move |_| while wait.recv().is_ok() {}).expect("spawn");
        for _ in 0..2 {
            assert_eq!(tasks.stop(Duration::from_millis(1)), Err(vec!["deaf".to_owned()]));
        }
        drop(release);
        assert_eq!(tasks.stop(Duration::from_secs(30)), Ok(()));
    }

    /// The closure that never ran was dropped under the lock that counting it
    /// out needs, and `spawn` waited for itself for ever.
    #[test]
    fn a_thread_that_cannot_be_started_is_an_error_and_counts_for_nothing() {
        struct AsksWhenDropped(Option<StopSignal>);
        impl Drop for AsksWhenDropped {
            fn drop(&mut self) {
                assert!(self.0.take().is_some_and(|signal| !signal.is_stopped()));
            }
        }
        let tasks = Arc::new(Tasks::default());
        let (answer, answered) = std::sync::mpsc::channel();
        let inside = Arc::clone(&tasks);
        thread::spawn(move || {
            let captured = AsksWhenDropped(Some(StopSignal { shared: Arc::clone(&inside.shared) }));
            // No machine has an address space for such a stack.
            let builder = thread::Builder::new().stack_size(1 << 50);
            let started = inside.spawn_by(builder, "too large", move |_| drop(captured));
            answer.send(started.map_err(|error| error.code().to_owned())).expect("the test waits");
        });
        let refused = answered.recv_timeout(Duration::from_secs(30)).expect("does not wait for itself");
        assert_eq!(refused, Err("spawn.failed".to_owned()));
        assert_eq!(tasks.spawn("a\0b", |_| {}).map_err(|error| error.code().to_owned()), refused);
        assert_eq!(tasks.stop(Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_panicking_thread_is_counted_out() {
        let tasks = Tasks::default();
        tasks.spawn("panics", |_| std::panic::resume_unwind(Box::new(()))).expect("spawn");
        assert_eq!(tasks.stop(Duration::from_secs(30)), Ok(()));
    }
}
