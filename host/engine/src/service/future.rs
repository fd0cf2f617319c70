//! An async call: a lease on the version that it began on, and a pending call
//! in it.

use super::{
    directory::{Admitted, Directory, Entry},
    error::{CallError, outcome},
    message::{CallOptions, Reply},
    serving::Serving,
    timer::Key,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{ChainToken, Entered, GatePlace, Holder, Lease, Refused, current_chain},
    load::Answer,
};
use replug_abi::{ForeignWaker, Pending, Status};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The answer of an async call, to be awaited on any runtime.
///
/// Dropping it cancels the call.
#[must_use = "a call that is not awaited does nothing"]
pub struct CallFuture {
    entry: Arc<Entry>,
    directory: Arc<Directory>,
    method: String,
    body: Vec<u8>,
    options: CallOptions,
    parent: ChainToken,
    deadline_ns: u64,
    timer: Option<Key>,
    /// Where it waits at a closed gate.
    place: GatePlace,
    admitted: Option<Admitted>,
    state: State,
}

enum State {
    Failed(Option<CallError>),
    NotStarted,
    Waiting { lease: Lease<Serving>, pending: Pending },
    Done,
}

impl CallFuture {
    pub(super) fn new(
        entry: Arc<Entry>,
        directory: Arc<Directory>,
        method: &str,
        body: &[u8],
        options: CallOptions,
    ) -> Self {
        // A body that is refused is not copied.
        let (state, body) = match entry.take_in(&directory.limits, method, body) {
            Ok(()) => (State::NotStarted, body.to_vec()),
            Err(error) => (State::Failed(Some(error)), Vec::new()),
        };
        CallFuture {
            entry,
            directory,
            method: method.to_owned(),
            body,
            deadline_ns: options.deadline_ns(),
            options,
            parent: current_chain(),
            timer: None,
            place: GatePlace::default(),
            admitted: None,
            state,
        }
    }

    /// The same call on behalf of another one.
    pub(super) fn in_chain(mut self, parent: ChainToken) -> Self {
        self.parent = parent;
        self
    }

    /// The same call with the deadline of another one; 0 for the default.
    pub(super) fn until(mut self, deadline_ns: u64) -> Self {
        if deadline_ns != 0 {
            self.deadline_ns = deadline_ns;
        }
        self
    }

    fn start(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, CallError>> {
        if self.admitted.is_none() {
            match self.entry.admit(&self.directory.limits) {
                Ok(admitted) => self.admitted = Some(admitted),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let holder = Holder::new("async call", monotonic_ns()).in_chain(self.parent);
        let route = self.entry.route(&self.options.caller, &self.options.sticky_key);
        let lease = match self.entry.slot.poll_lease(cx, route, holder, &mut self.place) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(lease)) => lease,
            Poll::Ready(Err(source)) => return Poll::Ready(Err(self.refused(source))),
        };
        let mut pending = Pending::NULL;
        let limits = self.directory.answer_limits();
        let started = lease.enter(|entered| {
            let mut request = self.options.request(&self.method, &self.body);
            request.deadline_ns = self.deadline_ns;
            request.chain = lease.chain().to_raw();
            let (status, answer) =
                Answer::collect(limits, |sink| entered.payload().start(&request, &mut pending, sink));
            self.settle(&entered, status, answer)
        });
        match started {
            Err(source) => Poll::Ready(Err(self.refused(source))),
            Ok(Poll::Ready(result)) => Poll::Ready(result),
            Ok(Poll::Pending) => {
                self.state = State::Waiting { lease, pending };
                self.poll_pending(cx)
            }
        }
    }

    fn poll_pending(&self, cx: &Context<'_>) -> Poll<Result<Reply, CallError>> {
        let State::Waiting { lease, pending } = &self.state else {
            return Poll::Pending;
        };
        let lent = ForeignWaker::lend(cx.waker());
        let polled = lease.enter(|entered| {
            let (status, answer) = Answer::collect(self.directory.answer_limits(), |sink| {
                // SAFETY: the pending call came from this version's `start`
                // and is cancelled only when the state is left.
                unsafe { entered.payload().poll(*pending, &lent, sink) }
            });
            self.settle(&entered, status, answer)
        });
        match polled {
            Ok(poll) => poll,
            Err(source) => Poll::Ready(Err(self.refused(source))),
        }
    }

    fn settle(
        &self,
        entered: &Entered<'_, Serving>,
        status: Status,
        answer: Answer,
    ) -> Poll<Result<Reply, CallError>> {
        if status == Status::PENDING {
            return Poll::Pending;
        }
        if !status.is_ok() {
            entered.fail();
        }
        self.entry.note_deadline(self.deadline_ns, status);
        let answer_bytes_max = self.directory.limits.answer_bytes_max;
        Poll::Ready(outcome(&self.entry.name, &self.method, answer_bytes_max, status, answer))
    }

    fn deadline_passed(&self) -> bool {
        self.deadline_ns != 0 && monotonic_ns() >= self.deadline_ns
    }

    fn refused(&self, source: Refused) -> CallError {
        self.directory.refused(&self.entry, source)
    }

    /// Ends what is pending and lets the version go. `failed` counts the call
    /// as one that the version did not answer; giving it up is no failure.
    fn finish(&mut self, failed: bool) {
        if let State::Waiting { lease, pending } = std::mem::replace(&mut self.state, State::Done) {
            let cancelled = lease.enter(|entered| {
                if failed {
                    entered.fail();
                }
                // SAFETY: the pending call came from this version's `start`,
                // and the state that held it is gone.
                unsafe { entered.payload().cancel(pending) }
            });
            if cancelled.is_err() {
                // This thread is at its bound of nested calls. What is pending
                // stays, and so must the version.
                tracing::error!(plugin = %self.entry.name, "an async call could not be cancelled");
                std::mem::forget(lease);
            }
        }
        self.admitted = None;
        self.entry.slot.leave_gate(&mut self.place);
        if let Some(key) = self.timer.take() {
            self.directory.timer.cancel(key);
        }
    }
}

impl Future for CallFuture {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let poll = match &mut this.state {
            State::Failed(error) => {
                return Poll::Ready(Err(error.take().unwrap_or(CallError::Stopped)));
            }
            State::Done => return Poll::Ready(Err(CallError::Stopped)),
            State::NotStarted => this.start(cx),
            State::Waiting { .. } => this.poll_pending(cx),
        };
        if poll.is_ready() {
            this.finish(false);
            this.state = State::Done;
            return poll;
        }
        if this.directory.is_stopped() {
            this.finish(false);
            this.state = State::Done;
            return Poll::Ready(Err(CallError::Stopped));
        }
        if this.deadline_passed() {
            this.entry.note_deadline(0, Status::DEADLINE);
            this.finish(true);
            this.state = State::Done;
            let (plugin, method) = (this.entry.name.clone(), this.method.clone());
            return Poll::Ready(Err(CallError::Deadline { plugin, method }));
        }
        if let Some(key) = this.timer.take() {
            this.directory.timer.cancel(key);
        }
        // Without a deadline the timer tells of the end of the host.
        let wake_ns = if this.deadline_ns == 0 { u64::MAX } else { this.deadline_ns };
        this.timer = Some(this.directory.timer.wake_at(wake_ns, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for CallFuture {
    fn drop(&mut self) {
        self.finish(false);
    }
}
