//! What a service call carries.

use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};
use std::{ffi::c_void, ptr};

/// A service request. Borrowed from the caller for the length of the call.
///
/// The fields are frozen. What comes later hangs on `extension`, a chain of
/// records that a callee skips where it does not know their kind.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Request<'a> {
    /// The method's name.
    pub method: RStr<'a>,
    /// The body, uninterpreted.
    pub body: RSlice<'a, u8>,
    /// Media type of the body; empty when the caller did not say.
    pub content_type: RStr<'a>,
    /// When the caller stops waiting: nanoseconds of `CLOCK_MONOTONIC`,
    /// 0 for never.
    pub deadline_ns: u64,
    /// Names the call in logs and traces; may be empty.
    pub request_id: RStr<'a>,
    /// A W3C `traceparent`; may be empty.
    pub trace_parent: RStr<'a>,
    /// What sticky routing hashes; empty for no preference.
    pub sticky_key: RSlice<'a, u8>,
    /// Bits are appended as they are needed; unknown bits are ignored.
    pub flags: u64,
    /// The token of the chain of calls that caused this one; 0 for none.
    /// Opaque to plugins, who hand it back with the calls that they make.
    pub chain: u64,
    /// The first [`Extension`] record, or null.
    pub extension: *const c_void,
}

impl<'a> Request<'a> {
    /// A request with a method and a body and nothing else.
    pub fn new(method: &'a str, body: &'a [u8]) -> Self {
        Request {
            method: RStr::from_str(method),
            body: RSlice::from_slice(body),
            content_type: RStr::from_str(""),
            deadline_ns: 0,
            request_id: RStr::from_str(""),
            trace_parent: RStr::from_str(""),
            sticky_key: RSlice::from_slice(&[]),
            flags: 0,
            chain: 0,
            extension: ptr::null(),
        }
    }
}

/// The head of an extension record; `size` bytes in all, its own fields behind.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Extension {
    /// What the record is; unknown kinds are skipped.
    pub kind: u32,
    /// Bytes of the whole record, this head included.
    pub size: u32,
    /// The next [`Extension`], or null.
    pub next: *const c_void,
}
