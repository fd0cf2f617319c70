//! Threads of a plugin that the host can stop and wait for.

use crate::{Error, Result};
use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Tells a thread of a plugin when to end.
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
    handles: Vec<JoinHandle<()>>,
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
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(Error::new(
                "spawn.stopping",
                format!("cannot start thread {name:?}: the plugin is stopping"),
            ));
        }
        state.handles.retain(|handle| !handle.is_finished());
        let id = state.next;
        let signal = StopSignal { shared: Arc::clone(&self.shared) };
        let ended = Ended { shared: Arc::clone(&self.shared), id };
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _ended = ended;
                body(signal);
            })
            .map_err(|e| Error::new("spawn.failed", format!("cannot start thread {name:?}: {e}")))?;
        state.next += 1;
        state.running.push((id, name.to_owned()));
        state.handles.push(handle);
        Ok(())
    }

    /// Asks all threads to end and waits for them. On expiry the names of
    /// those that still run.
    pub(crate) fn stop(&self, wait: Duration) -> Result<(), Vec<String>> {
        let until = Instant::now() + wait;
        let mut state = self.shared.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
        while !state.running.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(state.running.drain(..).map(|(_, name)| name).collect());
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            // A panic of the thread was reported by the panic hook.
            let _ = handle.join();
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

    #[test]
    fn a_panicking_thread_is_counted_out() {
        let tasks = Tasks::default();
        tasks.spawn("panics", |_| std::panic::resume_unwind(Box::new(()))).expect("spawn");
        assert_eq!(tasks.stop(Duration::from_secs(30)), Ok(()));
    }
}
