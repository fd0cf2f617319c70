//! An async call that this plugin makes, or something else that the host has
//! not finished yet.

use super::answer::Answer;
use crate::{Reply, Result, context::host_vtable};
use replug_abi::{ForeignWaker, HostContext, Pending, Status};
use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

/// Polls the host for an answer; dropping it cancels the call.
pub(crate) struct Outgoing {
    host: HostContext,
    pending: Pending,
    method: String,
}

impl Outgoing {
    pub(crate) fn new(host: HostContext, pending: Pending, method: &str) -> Self {
        Outgoing { host, pending, method: method.to_owned() }
    }
}

impl Future for Outgoing {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let lent = ForeignWaker::lend(cx.waker());
        let (status, answer) = Answer::collect(|sink| {
            // SAFETY: `pending` is live until this value is dropped; waker and
            // sink outlive the call.
            unsafe { host_vtable(&self.host).poll()(self.pending, &lent, sink) }
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
        let _ = unsafe { host_vtable(&self.host).cancel()(self.pending) };
    }
}
