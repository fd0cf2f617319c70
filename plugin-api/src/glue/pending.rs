//! An async call that this plugin answers.

use super::{answer, fence, waker};
use crate::{Error, Reply, Result, methods::ReplyFuture};
use replug_abi::{ForeignWaker, Pending, Sink, Status};
use std::{
    future::Future,
    pin::Pin,
    sync::mpsc,
    task::{self, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinHandle};

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
            Poll::Ready(Ok(result)) => answer::write(result, sink),
            Poll::Ready(Err(error)) if error.is_panic() => fence::report(sink, error.into_panic()),
            Poll::Ready(Err(_)) => answer::write_error(
                &Error::new("call.cancelled", "the plugin stopped before it answered"),
                sink,
            ),
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
pub(crate) fn block_on(
    runtime: &Handle,
    future: ReplyFuture,
    time_left: Option<Duration>,
    sink: &Sink,
) -> Status {
    // A channel rather than `Handle::block_on`: the caller may itself be a
    // worker of this runtime, where tokio forbids blocking on it.
    let (send, receive) = mpsc::sync_channel(1);
    let task = runtime.spawn(async move {
        // A receiver that is gone has given the call up.
        let _ = send.send(future.await);
    });
    let answer = match time_left {
        Some(time) => receive.recv_timeout(time),
        None => receive.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
    };
    match answer {
        Ok(result) => answer::write(result, sink),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            task.abort();
            sink.error("call.deadline", "the deadline passed before the method answered", true);
            Status::DEADLINE
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            sink.error("panic", "the method panicked or the plugin stopped before it answered", false);
            Status::PANIC
        }
    }
}
