//! An async call that this plugin makes.

use super::answer::Answer;
use crate::{Context, Reply, Result};
use replug_abi::{ForeignWaker, Pending, Status};
use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

/// Polls the host for an answer; dropping it cancels the call.
pub(crate) struct Outgoing {
    context: Context,
    pending: Pending,
    method: String,
}

impl Outgoing {
    pub(crate) fn new(context: Context, pending: Pending, method: &str) -> Self {
        Outgoing { context, pending, method: method.to_owned() }
    }
}

impl Future for Outgoing {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let lent = ForeignWaker::lend(cx.waker());
        let (status, answer) = Answer::collect(|sink| {
            // SAFETY: `pending` is live until this value is dropped; waker and
            // sink outlive the call.
            unsafe { self.context.vtable().poll()(self.pending, &lent, sink) }
        });
        match status {
            Status::PENDING => Poll::Pending,
            status => Poll::Ready(answer.into_result(status, &self.method)),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // The call is over, whatever the host says about it.
        // SAFETY: the pending call is ended exactly once, here.
        let _ = unsafe { self.context.vtable().cancel()(self.pending) };
    }
}
