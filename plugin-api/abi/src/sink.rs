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
}

/// Where a callee writes its answer.
///
/// Thread: used only on the thread of the call. Valid: only during the call.
/// Owner: the caller.
#[repr(C)]
#[derive(StableAbi)]
pub struct Sink {
    /// Handed back to `write`; opaque to the callee.
    pub context: *mut c_void,
    /// Copies `data` into the caller's memory. Never unwinds. A status other
    /// than [`Status::OK`] (a limit of the caller was reached) ends the answer.
    pub write: unsafe extern "C" fn(context: *mut c_void, part: Part, data: RSlice<'_, u8>) -> Status,
}

impl Sink {
    /// Writes one piece of a part.
    pub fn write(&self, part: Part, data: &[u8]) -> Status {
        // SAFETY: whoever made this sink keeps `context` valid for `write`
        // during the call, which is the contract of the two public fields.
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
