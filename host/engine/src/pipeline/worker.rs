//! The thread that runs hooks: the engine's own, so that a hook that hangs
//! holds up neither a caller's runtime nor the host.
//!
//! A job tells its [`Progress`] before each hook. When a hook does not return
//! in time the job is abandoned: whoever waited goes on, and the job learns of
//! it at its next step, so that no hook begins whose outcome nobody sees. The
//! worker decides nothing about versions; what an abandoned job still holds is
//! the asker's to follow ([`Overdue::late`]).

use super::{
    error::DeployError,
    progress::{Phase, Progress},
};
use crate::{
    dispatch,
    load::{Hook, HookError, HookErrorKind},
};
use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TrySendError};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

/// Runs jobs one after the other, each hook of them within a time. A job that
/// does not return in time keeps its thread, and the next one gets a new one.
pub(crate) struct Worker {
    /// None after the system refused a thread.
    orders: Option<Sender<Order>>,
    timeout: Duration,
}

/// What the thread is told to do.
enum Order {
    Run(Box<dyn FnOnce() + Send>),
    /// Stay awake for a moment.
    StandBy,
    /// Detach from versions that were retired.
    PassBy,
}

/// A job that was not done in time, or not at all.
#[derive(Debug)]
pub(crate) struct Overdue<T> {
    pub(crate) error: HookError,
    /// Where its result comes when it comes after all; `None` if it never will.
    /// Who does not care drops this, and the result with it.
    pub(crate) late: Option<Receiver<T>>,
}

impl<T> Overdue<T> {
    /// The hook that has not returned.
    pub(crate) fn hanging_hook(&self) -> Option<Hook> {
        let runs = matches!(self.error.kind, HookErrorKind::TimedOut | HookErrorKind::OutOfTime);
        runs.then_some(self.error.hook)
    }
}

impl<T> From<Overdue<T>> for HookError {
    fn from(overdue: Overdue<T>) -> Self {
        overdue.error
    }
}

impl<T> From<Overdue<T>> for DeployError {
    fn from(overdue: Overdue<T>) -> Self {
        overdue.error.into()
    }
}

impl Worker {
    /// A worker whose jobs may spend `timeout` in each hook.
    pub(crate) fn start(timeout: Duration) -> io::Result<Worker> {
        Ok(Worker { orders: Some(thread()?), timeout })
    }

    /// Runs `job` and waits for it.
    ///
    /// # Errors
    /// [`HookErrorKind::TimedOut`] with the hook that did not return, or
    /// [`HookErrorKind::OutOfTime`] where those before it took most of the time;
    /// [`HookErrorKind::Host`] when the job could not be run or panicked.
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        progress: &Progress,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue<T>> {
        let (done, result) = channel::bounded(1);
        let inside = progress.clone();
        let order = Order::Run(Box::new(move || {
            if !inside.begin() {
                return;
            }
            let value = job();
            inside.finish();
            // Nobody waits any more, and nobody wants it late.
            let _ = done.send(value);
        }));
        // Half of it, so that a new thread would have the other half.
        let within = progress.position().left(self.timeout) / 2;
        if let Err(error) = self.send(order, within) {
            return Err(not_run(progress, format!("no thread for hooks: {error}")));
        }
        if progress.position().budget.is_some() {
            awake_until(|| !result.is_empty());
        }
        self.wait(progress, result)
    }

    /// A thread that does not take its orders hangs outside of any job: in a
    /// thread-local destructor of a version that left. It is left to that.
    fn send(&mut self, order: Order, within: Duration) -> io::Result<()> {
        let order = match &self.orders {
            None => order,
            Some(orders) => match orders.send_timeout(order, within) {
                Ok(()) => return Ok(()),
                Err(refused) => refused.into_inner(),
            },
        };
        // The queue of a new thread is empty.
        let _ = self.orders.insert(thread()?).send(order);
        Ok(())
    }

    fn wait<T>(&mut self, progress: &Progress, result: Receiver<T>) -> Result<T, Overdue<T>> {
        loop {
            let position = progress.position();
            let received = match position.phase {
                Phase::Finished => result.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => result.recv_timeout(position.left(self.timeout)),
            };
            match received {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(not_run(progress, "the host's own code panicked around it".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let Some(position) = progress.abandon(position) else {
                        // It went on meanwhile.
                        continue;
                    };
                    self.orders = thread().ok();
                    if position.phase == Phase::Queued {
                        return Err(not_run(progress, "the host's hook thread hangs elsewhere".to_owned()));
                    }
                    let reason = match position.budget {
                        Some(budget) if budget.is_over() => {
                            format!("all hooks together took longer than {} ms", budget.whole.as_millis())
                        }
                        _ => format!("it did not return within {} ms", self.timeout.as_millis()),
                    };
                    let kind = position.kind_of_lateness();
                    let error = HookError { hook: position.hook, kind, reason };
                    return Err(Overdue { error, late: Some(result) });
                }
            }
        }
    }

    /// Says that a job is about to come and that callers will wait for it: the
    /// thread then stays awake for a moment, since waking takes longer than
    /// most jobs.
    pub(crate) fn stand_by(&self) {
        if let Some(orders) = &self.orders {
            // Full: it is awake. Gone: the job will be told.
            let _ = orders.try_send(Order::StandBy);
        }
    }

    /// Something that makes the worker leave retired versions.
    pub(crate) fn nudge(&self) -> Nudge {
        Nudge(self.orders.clone())
    }
}

/// Makes the worker detach from versions that it no longer uses, if it is idle.
#[derive(Clone)]
pub(crate) struct Nudge(Option<Sender<Order>>);

impl Nudge {
    /// Whether the worker passes by later than this, or has no need to.
    pub(crate) fn send(&self) -> bool {
        let Some(orders) = &self.0 else { return true };
        // Full: what is queued may be an order that it does not pass by after. Gone: it
        // has detached.
        !matches!(orders.try_send(Order::PassBy), Err(TrySendError::Full(_)))
    }
}

fn not_run<T>(progress: &Progress, reason: String) -> Overdue<T> {
    let hook = progress.position().hook;
    Overdue { error: HookError { hook, kind: HookErrorKind::Host, reason }, late: None }
}

fn thread() -> io::Result<Sender<Order>> {
    let (orders, queue) = channel::bounded(1);
    thread::Builder::new().name("replug-hooks".to_owned()).spawn(move || {
        for order in &queue {
            match order {
                // A panic was printed by the hook for panics; who waits learns
                // of it because the result's sender is gone.
                Order::Run(job) => drop(catch_unwind(AssertUnwindSafe(job))),
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
    use crate::pipeline::progress::Party;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    const SHORT: Duration = Duration::from_millis(250);
    const LONG: Duration = Duration::from_secs(10);

    fn at(hook: Hook) -> Progress {
        Progress::at(Party::Candidate, hook)
    }

    /// A job that hangs in `restore` until the sender is dropped, and what it
    /// was told when it went on to `activate`.
    fn hanging(worker: &mut Worker) -> (Overdue<Result<(), HookError>>, Sender<()>) {
        let (release, wait) = channel::bounded::<()>(0);
        let progress = at(Hook::Restore);
        let inside = progress.clone();
        let hung = worker.run(&progress, move || {
            inside.enter(Party::Candidate, Hook::Restore)?;
            let _ = wait.recv();
            inside.enter(Party::Candidate, Hook::Activate)
        });
        (hung.expect_err("it hangs"), release)
    }

    #[test]
    fn a_job_that_hangs_is_named_and_the_next_one_runs() {
        let mut worker = Worker::start(SHORT).expect("thread");
        let (hung, release) = hanging(&mut worker);
        assert_eq!((hung.error.hook, hung.error.kind), (Hook::Restore, HookErrorKind::TimedOut));
        worker.timeout = LONG;
        assert_eq!(worker.run(&at(Hook::Stop), || 7).ok(), Some(7));
        drop(release);
    }

    #[test]
    fn a_job_that_was_given_up_enters_no_further_hook_and_its_result_comes_late() {
        let mut worker = Worker::start(SHORT).expect("thread");
        let (hung, release) = hanging(&mut worker);
        drop(release);
        let late = hung.late.expect("kept").recv_timeout(LONG).expect("comes late");
        let refused = late.expect_err("no hook begins that nobody waits for");
        assert_eq!((refused.hook, refused.kind), (Hook::Activate, HookErrorKind::TimedOut));
    }

    #[test]
    fn hooks_that_are_quick_each_may_be_too_slow_together() {
        let mut worker = Worker::start(LONG).expect("thread");
        let progress = at(Hook::Export).within(Instant::now(), SHORT);
        let inside = progress.clone();
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let overdue = worker.run(&progress, move || {
            while inside.enter(Party::Before, Hook::Migrate).is_ok() {
                thread::yield_now();
            }
            seen.store(true, Ordering::Release);
        });
        let overdue = overdue.expect_err("the time is over");
        assert_eq!((overdue.error.hook, progress.party()), (Hook::Migrate, Party::Before));
        assert_eq!(overdue.error.kind, HookErrorKind::OutOfTime, "the hook that ran last was quick");
        assert_eq!(overdue.late.expect("kept").recv_timeout(LONG), Ok(()));
        assert!(stopped.load(Ordering::Acquire));
    }

    #[test]
    fn a_thread_that_hangs_outside_of_jobs_is_left_and_no_hook_is_blamed() {
        let mut worker = Worker::start(SHORT).expect("thread");
        let (release, wait) = channel::bounded::<()>(0);
        // As a destructor would, run while the thread passes by: not a job of `run`.
        let hang = Order::Run(Box::new(move || {
            let _ = wait.recv();
        }));
        worker.orders.as_ref().expect("runs").send(hang).expect("is taken");
        let blamed = worker.run(&at(Hook::Stop), || 7).expect_err("is never taken up");
        assert_eq!(blamed.error.kind, HookErrorKind::Host);
        worker.timeout = LONG;
        assert_eq!(worker.run(&at(Hook::Stop), || 7).ok(), Some(7));
        drop(release);
    }

    /// Once, a job for which callers waited at a gate waited for such a thread
    /// for as long as a hook may take, which is longer than callers wait.
    #[test]
    fn a_job_in_a_hurry_does_not_wait_for_a_thread_that_takes_no_orders() {
        let mut worker = Worker::start(Duration::MAX).expect("thread");
        let (release, wait) = channel::bounded::<()>(0);
        let orders = worker.orders.clone().expect("runs");
        let hang = Order::Run(Box::new(move || {
            let _ = wait.recv();
        }));
        orders.send(hang).expect("is taken");
        // Room for it is only once the thread has taken the one that hangs.
        orders.send(Order::StandBy).expect("fills the queue");
        let progress = at(Hook::Freeze).within(Instant::now(), Duration::from_secs(1));
        assert_eq!(worker.run(&progress, || 7).ok(), Some(7));
        drop(release);
    }

    #[test]
    fn a_job_that_panics_is_the_hosts_fault_and_the_next_one_runs() {
        let mut worker = Worker::start(LONG).expect("thread");
        let panicked = worker.run(&at(Hook::Prepare), || assert!(std::hint::black_box(false), "a bug"));
        assert_eq!(panicked.expect_err("it panicked").error.kind, HookErrorKind::Host);
        assert_eq!(worker.run(&at(Hook::Stop), || 7).ok(), Some(7));
    }
}
