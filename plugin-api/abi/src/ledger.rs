//! `replug.ledger`: what a plugin keeps books of, so that it can be unloaded.
//!
//! glibc counts thread-local destructors, keys and threads against a library
//! for ever; the plugin's hidden copies of the registering functions keep them
//! here instead. Functions of this interface never unwind, never block, and
//! are called by the host's threads only.

use crate::{InterfaceVersion, Status};
use abi_stable::StableAbi;
use std::ffi::c_void;

/// The interface's id.
pub const ID: &str = "replug.ledger";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 0, 0);

/// What the ledger asks of the host, handed over once, before any function of
/// another interface is called; constructors and the root module's loader have
/// run by then. Lives until the library is unmapped.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct LedgerHost {
    /// Opaque to the plugin.
    pub context: *const c_void,
    /// Creates a thread whose first and last steps are in the host's text, so
    /// that no thread executes the plugin's code after it was counted out.
    /// Arguments and result as `pthread_create`. After `start` has returned the
    /// new thread runs the ledger's `detach`.
    pub spawn: unsafe extern "C" fn(
        context: *const c_void,
        thread: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> i32,
}

/// A thread's start routine, as `pthread_create` takes it.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct ThreadStart(pub unsafe extern "C" fn(*mut c_void) -> *mut c_void);

/// Receives one leftover block.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct BlockVisitor {
    /// Handed back to `visit`.
    pub context: *mut c_void,
    /// Takes the pointer that `malloc` once returned.
    pub visit: unsafe extern "C" fn(context: *mut c_void, block: *mut c_void),
}

/// What the plugin's allocator has given out and not taken back.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, StableAbi)]
pub struct HeapUse {
    /// Bytes as the plugin asked for them.
    pub bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// The vtable of the interface.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = LedgerVtableRef, prefix_fields = LedgerVtablePrefix)))]
pub struct LedgerVtable {
    /// Hands the host's part over. Called once, before any other function of the
    /// table of interfaces. A plugin that answers another status than
    /// [`Status::OK`] keeps no books and must not be used.
    pub install: unsafe extern "C" fn(host: &LedgerHost) -> Status,
    /// Runs this thread's thread-local destructors and key destructors of the
    /// plugin, repeated until there are none. Returns how many ran. Called on
    /// a thread that is outside the plugin.
    pub detach: unsafe extern "C" fn() -> u64,
    /// Deletes the plugin's pthread keys. Returns how many there were. Called
    /// once, after the last thread has left.
    pub release: unsafe extern "C" fn() -> u64,
    /// Threads that the plugin started before `install` (in constructors) and
    /// that nobody can count out.
    pub unmanaged_threads: unsafe extern "C" fn() -> u64,
    /// Live bytes and blocks; [`Status::UNSUPPORTED`] when the author opted
    /// out of the allocation ledger.
    pub heap: unsafe extern "C" fn(out: &mut HeapUse) -> Status,
    /// Visits the `malloc` pointer of each live block. The host frees them
    /// after the library is unmapped, and the plugin frees none of them from here
    /// on: finalisers run in between. Called once, after `release`, just before
    /// the library is closed.
    #[sabi(last_prefix_field)]
    pub leftovers: unsafe extern "C" fn(visitor: &BlockVisitor) -> Status,
}
