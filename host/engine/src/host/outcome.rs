//! The result of a command, to be awaited or waited for.

use super::error::HostError;
use crate::event::FailureReport;
use std::pin::Pin;
use tokio::sync::oneshot;

/// The result of a command, once it was carried out: await it, or
/// [`wait`](Outcome::wait) for it on a thread without a runtime.
#[must_use = "the command may fail"]
pub struct Outcome<T> {
    answer: Answer<T>,
}

enum Answer<T> {
    /// The loop will tell.
    Later(oneshot::Receiver<Result<T, FailureReport>>),
    /// The command was not accepted.
    Now(HostError),
}

impl<T> Outcome<T> {
    pub(super) fn later(answer: oneshot::Receiver<Result<T, FailureReport>>) -> Self {
        Outcome { answer: Answer::Later(answer) }
    }

    pub(super) fn not_accepted(error: HostError) -> Self {
        Outcome { answer: Answer::Now(error) }
    }

    /// Waits for it on this thread, which is none of an async runtime.
    ///
    /// # Errors
    /// [`HostError::Failed`] with code and next step, [`HostError::Busy`],
    /// [`HostError::Stopped`].
    pub fn wait(self) -> Result<T, HostError> {
        match self.answer {
            Answer::Later(answer) => told(answer.blocking_recv()),
            Answer::Now(error) => Err(error),
        }
    }
}

impl<T> IntoFuture for Outcome<T>
where
    T: Send + 'static,
{
    type Output = Result<T, HostError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.answer {
                Answer::Later(answer) => told(answer.await),
                Answer::Now(error) => Err(error),
            }
        })
    }
}

/// The loop drops what it will not answer when it ends.
fn told<T>(answer: Result<Result<T, FailureReport>, oneshot::error::RecvError>) -> Result<T, HostError> {
    answer.map_or(Err(HostError::Stopped), |result| result.map_err(HostError::Failed))
}
