//! What waits, for a plugin or for the disk, on threads of its own: the server's
//! are few, and answer everybody.

use crate::problem::Problem;
use replug_host::CallError;
use std::panic::resume_unwind;

/// Runs what waits on a thread of its own.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Into<Problem> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        // Plugins' panics are caught inside; this one is the host's own.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(CallError::Stopped.into()),
        },
    }
}
