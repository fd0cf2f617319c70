//! How bytes leave a callee: through a sink that the caller owns.
//!
//! No allocation crosses the boundary. The callee hands out borrowed bytes,
//! part by part, and the sink copies what it wants to keep.

use crate::Status;
use abi_stable::{StableAbi, std_types::RSlice};
use std::ffi::c_void;

/// Which part of an answer a piece of bytes belongs to.
///
/// A sink ignores parts that it does not know, so parts are only appended.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, StableAbi)]
pub struct Part(pub u32);

impl Part {
    /// The answer's body. Several writes are appended to each other.
    pub const BODY: Part = Part(0);
    /// Media type of the body, UTF-8.
    pub const CONTENT_TYPE: Part = Part(1);
    /// The error's code, UTF-8, chosen by the callee.
    pub const ERROR_CODE: Part = Part(2);
    /// The error's message, UTF-8.
    pub const ERROR_MESSAGE: Part = Part(3);
    /// One byte, 1 when the same call may succeed later.
    pub const ERROR_RETRYABLE: Part = Part(4);
    /// The row in the schema that older versions read.
    pub const IMAGE: Part = Part(5);
}

/// Where a callee writes its answer.
///
/// Thread: used only on the thread of the call. Valid: only during the call.
/// Owner: the caller.
///
/// ```
/// use abi_stable::std_types::RSlice;
/// use replug_abi::{Part, Sink, Status};
/// use std::ffi::c_void;
///
/// /// SAFETY: `context` is the vector that the sink was made with.
/// unsafe extern "C" fn append(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status {
///     if part == Part::BODY {
///         // SAFETY: see above; nobody else uses the vector during the call.
///         unsafe { &mut *context.cast::<Vec<u8>>() }.extend_from_slice(data.as_slice());
///     }
///     Status::OK
/// }
///
/// let mut body: Vec<u8> = Vec::new();
/// // SAFETY: the vector outlives the sink, and `append` expects it.
/// let sink = unsafe { Sink::new((&raw mut body).cast(), append) };
/// assert!(sink.write(Part::BODY, b"hello").is_ok());
/// drop(sink);
/// assert_eq!(body, b"hello");
/// ```
#[repr(C)]
#[derive(StableAbi)]
pub struct Sink {
    // Handed back to `write`; opaque to the callee.
    context: *mut c_void,
    // Copies `data` into the caller's memory. Never unwinds. A status other
    // than `OK` (a limit of the caller was reached) ends the answer.
    write: unsafe extern "C" fn(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status,
}

impl Sink {
    /// A sink that hands `context` and each piece of an answer to `write`.
    ///
    /// `write` copies what it wants to keep and never unwinds. A status other
    /// than [`Status::OK`] (a limit of the caller was reached) ends the answer.
    ///
    /// # Safety
    /// Until the sink is dropped, `write` may be called with `context` and any
    /// part and bytes, on this thread.
    pub const unsafe fn new(
        context: *mut c_void,
        write: unsafe extern "C" fn(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status,
    ) -> Self {
        Sink { context, write }
    }

    /// Writes one piece of a part.
    pub fn write(&self, part: Part, data: &[u8]) -> Status {
        // SAFETY: whoever made this sink promised it in `new`; a sink is neither
        // `Clone` nor `Send`, so this is its thread and its time.
        unsafe { (self.write)(self.context, part, RSlice::from_slice(data)) }
    }

    /// Writes code, message and retryability of an error.
    pub fn error(&self, code: &str, message: &str, retryable: bool) {
        // An error that does not fit the caller's limits is still an error by
        // its status, so the sink's own answers do not matter here.
        let _ = self.write(Part::ERROR_CODE, code.as_bytes());
        let _ = self.write(Part::ERROR_MESSAGE, message.as_bytes());
        let _ = self.write(Part::ERROR_RETRYABLE, &[u8::from(retryable)]);
    }
}
