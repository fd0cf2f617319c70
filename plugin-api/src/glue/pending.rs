//! An async call that this plugin answers.

use super::{answer, fence, waker};
use crate::{Reply, Result, methods::ReplyFuture};
use replug_abi::{ForeignWaker, Pending, Sink, Status};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle, unconstrained},
};

/// A handler that runs on the plugin's runtime.
pub(crate) struct Task {
    join: JoinHandle<Result<Reply>>,
}

impl Task {
    pub(crate) fn start(runtime: &Handle, future: ReplyFuture) -> Pending {
        let task = Box::new(Task { join: runtime.spawn(future) });
        Pending(Box::into_raw(task).cast())
    }

    /// SAFETY: `pending` came from [`Task::start`] and was not cancelled.
    pub(crate) unsafe fn poll(pending: Pending, lent: &ForeignWaker, sink: &Sink) -> Status {
        // SAFETY: the caller's promise; the host polls from one thread at once.
        let task = unsafe { &mut *pending.0.cast::<Task>() };
        let waker = waker::from_foreign(lent);
        let mut cx = task::Context::from_waker(&waker);
        match Pin::new(&mut task.join).poll(&mut cx) {
            Poll::Pending => Status::PENDING,
            Poll::Ready(ended) => write(ended, sink),
        }
    }

    /// SAFETY: `pending` came from [`Task::start`] and is not used afterwards.
    pub(crate) unsafe fn cancel(pending: Pending) {
        // SAFETY: the caller's promise.
        let task = unsafe { Box::from_raw(pending.0.cast::<Task>()) };
        task.join.abort();
    }
}

/// Runs an async handler for a caller that waits on its thread.
///
/// Not by `Handle::block_on`: the caller may itself be a worker of this runtime,
/// where tokio forbids blocking on it. A `JoinHandle` needs no runtime around.
pub(crate) fn block_on(
    runtime: &Handle,
    future: ReplyFuture,
    time_left: Option<Duration>,
    sink: &Sink,
) -> Status {
    let until = time_left.map(|time| Instant::now() + time);
    let join = runtime.spawn(future);
    let abort = join.abort_handle();
    // Unconstrained: a worker whose task has used up its budget would be told
    // to yield again and again, and cannot.
    let mut join = pin!(unconstrained(join));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = task::Context::from_waker(&waker);
    loop {
        if let Poll::Ready(ended) = join.as_mut().poll(&mut cx) {
            return write(ended, sink);
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => {
                abort.abort();
                sink.error("call.deadline", "the deadline passed before the method answered", true);
                return Status::DEADLINE;
            }
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// Writes how a handler ended.
fn write(ended: std::result::Result<Result<Reply>, JoinError>, sink: &Sink) -> Status {
    match ended {
        Ok(result) => answer::write(result, sink),
        Err(error) if error.is_panic() => fence::report(sink, error.into_panic()),
        Err(_) => {
            sink.error("call.cancelled", "the plugin stopped before it answered", true);
            Status::CANCELLED
        }
    }
}

/// Wakes a thread that waits for an answer.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, glue::answer::Answer, runtime::Runtime};
    use std::{future::pending, sync::mpsc};

    fn wait_for(runtime: &Handle, future: ReplyFuture, time: Duration) -> (Status, Error) {
        let (status, answer) = Answer::collect(|sink| block_on(runtime, future, Some(time), sink));
        (status, answer.into_result(status, "method").expect_err("fails"))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_panic_keeps_its_text() {
        let runtime = Runtime::new("test");
        let handler = Box::pin(async { std::panic::resume_unwind(Box::new("lost")) });
        let (status, error) = wait_for(&runtime.handle().expect("starts"), handler, LONG);
        assert_eq!((status, error.code(), error.message()), (Status::PANIC, "panic", "lost"));
    }

    /// It was told as a panic of the plugin, and counted against its health.
    #[test]
    fn a_stop_is_no_panic() {
        let runtime = Runtime::new("test");
        let handle = runtime.handle().expect("starts");
        let (polled, is_polled) = mpsc::channel();
        let handler = Box::pin(async move {
            polled.send(()).expect("the test waits");
            pending().await
        });
        let waiting = thread::spawn(move || wait_for(&handle, handler, LONG));
        is_polled.recv().expect("the handler runs");
        runtime.stop(LONG);
        let (status, error) = waiting.join().expect("answers");
        assert_eq!((status, error.code()), (Status::CANCELLED, "call.cancelled"));
        assert!(error.is_retryable());
    }

    #[test]
    fn a_handler_is_dropped_when_the_deadline_passes() {
        struct Dropped(mpsc::Sender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.send(()).expect("the test waits");
            }
        }
        let runtime = Runtime::new("test");
        let (sender, dropped) = mpsc::channel();
        // The handler's from the start: the deadline may pass before it runs.
        let dropping = Dropped(sender);
        let handler = Box::pin(async move {
            let _dropping = dropping;
            pending().await
        });
        let (status, error) = wait_for(&runtime.handle().expect("starts"), handler, Duration::from_millis(1));
        assert_eq!((status, error.code(), error.is_retryable()), (Status::DEADLINE, "call.deadline", true));
        dropped.recv_timeout(LONG).expect("is dropped");
    }
}
