//! `replug.service`: a method's name and bytes in, bytes or an error out.

use crate::{Instance, InterfaceVersion, Request, Sink, Status};
use abi_stable::StableAbi;
use std::ffi::c_void;

/// The interface's id.
pub const ID: &str = "replug.service";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 0, 0);

/// A call that was started and has not been answered. Made by `start`, ended
/// by `cancel`, whether answered or not.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct Pending(#[sabi(unsafe_opaque_field)] pub *mut c_void);

// SAFETY: the SDK keeps only `Send` futures behind a pending call, and the
// host polls it from one thread at a time.
unsafe impl Send for Pending {}

impl Pending {
    /// No pending call.
    pub const NULL: Pending = Pending(std::ptr::null_mut());
}

/// The waker of the other side's task.
///
/// Thread: all functions may be called from any thread. Owner: whoever holds
/// the value calls `drop` or `wake` exactly once; `poll` lends one, of which
/// the callee keeps a clone.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct ForeignWaker {
    /// Opaque to the callee.
    pub data: *const c_void,
    /// Makes another waker of the same task.
    pub clone: unsafe extern "C" fn(data: *const c_void) -> *const c_void,
    /// Wakes and consumes.
    pub wake: unsafe extern "C" fn(data: *const c_void),
    /// Wakes and keeps.
    pub wake_by_ref: unsafe extern "C" fn(data: *const c_void),
    /// Consumes without waking.
    pub drop: unsafe extern "C" fn(data: *const c_void),
}

/// The vtable of the interface.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ServiceVtableRef, prefix_fields = ServiceVtablePrefix)))]
pub struct ServiceVtable {
    /// Calls a method and waits for its answer. Thread: any, concurrently.
    pub call: unsafe extern "C" fn(instance: Instance, request: &Request<'_>, sink: &Sink) -> Status,
    /// Starts a method. [`Status::OK`]: answered at once, `out` untouched.
    /// [`Status::PENDING`]: `out` is set, to be polled. The request is copied
    /// where it must outlive this function.
    pub start: unsafe extern "C" fn(
        instance: Instance,
        request: &Request<'_>,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status,
    /// Asks for the answer; [`Status::PENDING`] keeps a clone of the waker.
    /// Not to be called again after another status.
    pub poll: unsafe extern "C" fn(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status,
    /// Ends a pending call: an unanswered one is cancelled.
    pub cancel: unsafe extern "C" fn(pending: Pending) -> Status,
    /// Writes the methods to the body: a JSON array of
    /// `{"name":…,"kind":"sync"|"async","description":…}`.
    #[sabi(last_prefix_field)]
    pub methods: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
}
