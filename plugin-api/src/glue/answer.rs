//! An answer on its way through a sink: collected on the calling side, written
//! on the answering side.

use crate::{Error, Reply, Result};
use abi_stable::std_types::RSlice;
use replug_abi::{Part, Sink, Status};
use std::{borrow::Cow, ffi::c_void};

/// What a call that this plugin makes collects.
#[derive(Default)]
pub(crate) struct Answer {
    body: Vec<u8>,
    content_type: String,
    error_code: String,
    error_message: String,
    retryable: bool,
}

impl Answer {
    /// What `call` answers through a sink. Like a call, it never unwinds.
    pub(crate) fn collect(call: impl FnOnce(&Sink) -> Status) -> (Status, Answer) {
        let mut answer = Answer::default();
        // SAFETY: the answer outlives the sink, which is lent to `call` only,
        // and is not touched until it returns.
        let sink = unsafe { Sink::new((&raw mut answer).cast(), collect) };
        let status = call(&sink);
        (status, answer)
    }

    pub(crate) fn into_result(self, status: Status, method: &str) -> Result<Reply> {
        if status.is_ok() {
            return Ok(Reply::from(self.body).with_content_type(self.content_type));
        }
        Err(self.into_error("call.failed", || format!("method {method:?}: {status}")))
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The error of a call that failed, with these words where it has none.
    pub(crate) fn into_error(self, code: &'static str, message: impl FnOnce() -> String) -> Error {
        let code = if self.error_code.is_empty() { Cow::Borrowed(code) } else { Cow::Owned(self.error_code) };
        let message = if self.error_message.is_empty() { message() } else { self.error_message };
        let error = Error::new(code, message);
        if self.retryable { error.retryable() } else { error }
    }
}

/// What `call` says through a sink if it says anything: most say nothing, and
/// take no memory.
#[inline]
pub(crate) fn outcome(call: impl FnOnce(&Sink) -> Status) -> (Status, Option<Box<Answer>>) {
    let mut answer = None;
    // SAFETY: as in `Answer::collect`.
    let sink = unsafe { Sink::new((&raw mut answer).cast(), collect_lazily) };
    let status = call(&sink);
    (status, answer)
}

/// SAFETY: `context` is the `Option` of a sink made by [`outcome`].
unsafe extern "C" fn collect_lazily(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
    // SAFETY: as in `collect`.
    let answer = unsafe { &mut *context.cast::<Option<Box<Answer>>>() };
    let answer: *mut Answer = &raw mut **answer.get_or_insert_default();
    // SAFETY: the answer was just borrowed, for this call.
    unsafe { collect(answer.cast(), part, data) }
}

/// SAFETY: `context` is the `Answer` of a sink made by [`Answer::collect`].
unsafe extern "C" fn collect(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
    // SAFETY: a sink is used on the thread of its call only, while the answer
    // is exclusively borrowed by it.
    let answer = unsafe { &mut *context.cast::<Answer>() };
    let text = |data: RSlice<'_, u8>| String::from_utf8_lossy(data.as_slice()).into_owned();
    match part {
        Part::BODY => answer.body.extend_from_slice(data.as_slice()),
        Part::CONTENT_TYPE => answer.content_type = text(data),
        Part::ERROR_CODE => answer.error_code = text(data),
        Part::ERROR_MESSAGE => answer.error_message = text(data),
        Part::ERROR_RETRYABLE => answer.retryable = data.first() == Some(&1),
        _ => {}
    }
    Status::OK
}

/// Writes a handler's result.
pub(crate) fn write(result: Result<Reply>, sink: &Sink) -> Status {
    match result {
        Ok(reply) => {
            if !reply.content_type().is_empty() {
                let status = sink.write(Part::CONTENT_TYPE, reply.content_type().as_bytes());
                if !status.is_ok() {
                    return status;
                }
            }
            sink.write(Part::BODY, reply.body())
        }
        Err(error) => write_error(&error, sink),
    }
}

/// Writes a hook's result.
pub(crate) fn write_unit(result: Result<()>, sink: &Sink) -> Status {
    match result {
        Ok(()) => Status::OK,
        Err(error) => write_error(&error, sink),
    }
}

pub(crate) fn write_error(error: &Error, sink: &Sink) -> Status {
    sink.error(error.code(), error.message(), error.is_retryable());
    Status::ERROR
}
