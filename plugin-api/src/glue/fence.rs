//! The panic fence on every export: the host cannot catch a plugin's panic, so
//! it ends here, as a status and a text.

use replug_abi::{Sink, Status};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs `body`; a panic becomes [`Status::PANIC`] and its text goes to `sink`.
#[inline]
pub(crate) fn fence(sink: &Sink, body: impl FnOnce() -> Status) -> Status {
    // Unwind safety: after a panic the host treats the instance as suspect and
    // the author's types are behind `&self` anyway, as with std's threads.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(status) => status,
        Err(payload) => report(sink, payload),
    }
}

/// As [`fence`] for exports without a sink.
#[inline]
pub(crate) fn fence_silent(body: impl FnOnce() -> Status) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(status) => status,
        Err(payload) => {
            discard(payload);
            Status::PANIC
        }
    }
}

#[cold]
#[inline(never)]
pub(crate) fn report(sink: &Sink, payload: Box<dyn Any + Send>) -> Status {
    let text = text(&*payload as &dyn Any).to_owned();
    // First, since it may call others, whose errors are not to be taken for this.
    discard(payload);
    sink.error("panic", &text, false);
    Status::PANIC
}

/// The text of a panic's payload.
pub(crate) fn text(payload: &dyn Any) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "the panic carries no text"
    }
}

/// Drops a payload, whose own drop may panic once more.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        // A third panic could not be stopped: leak this one. The allocation
        // ledger frees its memory with the version.
        std::mem::forget(second);
    }
}
