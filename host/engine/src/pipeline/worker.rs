//! The thread that runs hooks: the engine's own, so that a hook that hangs
//! holds up neither a caller's runtime nor the host.

use crate::{
    dispatch,
    load::{Hook, HookError, HookErrorKind},
};
use crossbeam::channel::{self, RecvTimeoutError, Sender, TrySendError};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What the thread is told to do.
enum Order {
    Run(Box<dyn FnOnce() + Send>),
    /// Stay awake for a moment.
    StandBy,
    /// Detach from versions that were retired.
    PassBy,
}

/// Runs jobs one after the other, each within a time. A job that does not
/// return in time keeps its thread, and the next job gets a new one.
pub(crate) struct Worker {
    orders: Sender<Order>,
    timeout: Duration,
}

/// Which hook a job is in, and since when; told by the job itself.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<(Hook, Instant)>>);

impl Progress {
    pub(crate) fn at(hook: Hook) -> Self {
        Progress(Arc::new(Mutex::new((hook, Instant::now()))))
    }

    /// The job enters `hook`.
    pub(crate) fn enter(&self, hook: Hook) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (hook, Instant::now());
    }

    fn now(&self) -> (Hook, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// A worker whose jobs may spend `timeout` in each hook.
    pub(crate) fn start(timeout: Duration) -> io::Result<Worker> {
        Ok(Worker { orders: thread()?, timeout })
    }

    /// Runs `job` and waits for it.
    ///
    /// # Errors
    /// [`HookErrorKind::TimedOut`] with the hook that did not return. What the
    /// job owns stays with it.
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        progress: &Progress,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HookError> {
        let (done, result) = channel::bounded(1);
        let job = Box::new(move || {
            // Nobody waits any more when the time is over.
            let _ = done.send(job());
        });
        if self.orders.send(Order::Run(job)).is_err() {
            return Err(ended(progress));
        }
        awake_until(|| !result.is_empty());
        loop {
            let (hook, since) = progress.now();
            let left = self.timeout.saturating_sub(since.elapsed());
            match result.recv_timeout(left) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Disconnected) => return Err(ended(progress)),
                Err(RecvTimeoutError::Timeout) => {
                    if progress.now() != (hook, since) {
                        continue;
                    }
                    if let Ok(orders) = thread() {
                        self.orders = orders;
                    }
                    let reason = format!("it did not return within {} ms", self.timeout.as_millis());
                    return Err(HookError { hook, kind: HookErrorKind::TimedOut, reason });
                }
            }
        }
    }

    /// Says that a job is about to come and that callers will wait for it: the
    /// thread then stays awake for a moment, since waking takes longer than
    /// most jobs.
    pub(crate) fn stand_by(&self) {
        // Full: it is awake. Gone: the job will be told.
        let _ = self.orders.try_send(Order::StandBy);
    }

    /// Something that makes the worker leave retired versions.
    pub(crate) fn nudge(&self) -> Nudge {
        Nudge(self.orders.clone())
    }
}

/// Makes the worker detach from versions that it no longer uses, if it is idle.
#[derive(Clone)]
pub(crate) struct Nudge(Sender<Order>);

impl Nudge {
    pub(crate) fn send(&self) {
        // Full: it has work, and passes by after it. Gone: it has detached.
        match self.0.try_send(Order::PassBy) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

fn ended(progress: &Progress) -> HookError {
    let (hook, _) = progress.now();
    HookError { hook, kind: HookErrorKind::Failed, reason: "the host's hook thread ended".to_owned() }
}

fn thread() -> io::Result<Sender<Order>> {
    let (orders, queue) = channel::bounded(1);
    thread::Builder::new().name("replug-hooks".to_owned()).spawn(move || {
        for order in &queue {
            match order {
                Order::Run(job) => job(),
                Order::StandBy => {
                    awake_until(|| !queue.is_empty());
                    continue;
                }
                Order::PassBy => {}
            }
            dispatch::pass_by();
        }
    })?;
    Ok(orders)
}

/// How long a thread looks for what it awaits before it sleeps.
const AWAKE: Duration = Duration::from_micros(500);

/// Looks for what is awaited, without sleeping, for at most [`AWAKE`].
fn awake_until(came: impl Fn() -> bool) {
    let begun = Instant::now();
    while !came() && begun.elapsed() < AWAKE {
        // What is awaited may need this core.
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_hangs_is_named_and_the_next_one_runs() {
        let mut worker = Worker::start(Duration::from_millis(20)).expect("thread");
        let (release, wait) = channel::bounded::<()>(0);
        let progress = Progress::at(Hook::Export);
        let inside = progress.clone();
        let hung = worker.run(&progress, move || {
            inside.enter(Hook::Restore);
            while wait.recv().is_ok() {}
        });
        let error = hung.expect_err("it hangs");
        assert_eq!((error.hook, error.kind), (Hook::Restore, HookErrorKind::TimedOut));
        assert_eq!(worker.run(&Progress::at(Hook::Stop), || 7), Ok(7));
        drop(release);
    }
}
