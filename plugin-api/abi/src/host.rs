//! `replug.host`: what a host offers to the plugins that it runs.

use crate::{ForeignWaker, InterfaceVersion, Part, Pending, Request, Sink, Status};
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};
use std::ffi::c_void;

/// The interface's id.
pub const ID: &str = "replug.host";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 2, 0);

/// The host's side of one instance, as `prepare` receives it.
///
/// Thread: any. Valid, with all that it points to, until the library is
/// unmapped: the plugin may keep it in a static, beyond the instance that
/// received it, and use it in the hooks of another one, in thread-local
/// destructors, in `detach` and `release`, and in finalisers.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct HostContext {
    /// First argument of every function of the vtable.
    pub data: *const c_void,
    /// The vtable, a `PrefixRef` of [`HostVtable`].
    #[sabi(unsafe_opaque_field)]
    pub vtable: *const c_void,
}

// SAFETY: the host keeps behind `data` only what may be shared by threads.
unsafe impl Send for HostContext {}
// SAFETY: as above.
unsafe impl Sync for HostContext {}

/// One line of a plugin's log, borrowed for the call.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct LogRecord<'a> {
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u32,
    /// Usually the module's path.
    pub target: RStr<'a>,
    /// The message.
    pub message: RStr<'a>,
    /// Structured fields.
    pub fields: RSlice<'a, LogField<'a>>,
}

/// A field of a [`LogRecord`].
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct LogField<'a> {
    /// The field's name.
    pub name: RStr<'a>,
    /// The field's value as text.
    pub value: RStr<'a>,
}

/// The vtable of the interface. Functions never unwind.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostVtableRef, prefix_fields = HostVtablePrefix)))]
pub struct HostVtable {
    /// Writes a line to the host's log.
    pub log: unsafe extern "C" fn(data: *const c_void, record: &LogRecord<'_>),
    /// The most verbose level that the host wants, as in [`LogRecord::level`];
    /// 0 for none.
    pub log_level: unsafe extern "C" fn(data: *const c_void) -> u32,
    /// Calls a method of a plugin of this host, itself included, and waits.
    pub call: unsafe extern "C" fn(
        data: *const c_void,
        plugin: RStr<'_>,
        request: &Request<'_>,
        sink: &Sink,
    ) -> Status,
    /// Starts a call of a plugin of this host. Statuses as `start` of the
    /// service interface.
    pub start: unsafe extern "C" fn(
        data: *const c_void,
        plugin: RStr<'_>,
        request: &Request<'_>,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status,
    /// Polls a call made with `start`.
    pub poll: unsafe extern "C" fn(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status,
    /// Ends a call made with `start`.
    pub cancel: unsafe extern "C" fn(pending: Pending) -> Status,
    /// The token of the chain of calls that runs on this thread; 0 for none.
    #[sabi(last_prefix_field)]
    pub current_chain: unsafe extern "C" fn(data: *const c_void) -> u64,
    /// Since 1.1. The vtable, a `PrefixRef`, of another interface of the host,
    /// by its id; null if it has none. The plugin's root module lists the
    /// interface among what it requires, so that its layout was compared.
    /// Valid until the library is unmapped.
    pub find: unsafe extern "C" fn(data: *const c_void, id: RStr<'_>) -> *const c_void,
    /// Since 1.2. Writes a part of the error with which the typed call that runs
    /// on this thread is about to end; the code, which is the first, ends what
    /// was said before it. Here and not through an argument of each call, which
    /// those that succeed would pay for.
    pub error: unsafe extern "C" fn(data: *const c_void, part: Part, text: RSlice<'_, u8>) -> Status,
}
