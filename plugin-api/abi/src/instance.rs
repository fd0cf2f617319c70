//! `replug.instance`: the life of a plugin's instance.
//!
//! `prepare` → `restore` → `activate` → calls → `freeze` (`thaw`) → `export`
//! → `stop` → `destroy`. Hooks run one at a time for an instance, except
//! `export`, which may run beside calls. Every function runs on a thread of
//! the host's own, returns a status, and never unwinds.
//!
//! # Versions
//!
//! | version | adds |
//! |---|---|
//! | 1.0 | all functions |
//! | 1.1 | `export_down`, [`STEP_FAILED`]; `restore` from earlier schemas, `migrate` by all steps at once |

use crate::{HostContext, InterfaceVersion, Sink, Status};
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};
use std::ffi::c_void;

/// The interface's id.
pub const ID: &str = "replug.instance";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 1, 0);

/// The error code of `restore`, `export_down` and `migrate` for a step that failed,
/// since 1.1: that is what an operator is told then, whichever of them made the step.
pub const STEP_FAILED: &str = "state.step";

/// One instance of a plugin. Made by `prepare`, ended by `destroy`; the host
/// keeps it and never looks inside.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct Instance(#[sabi(unsafe_opaque_field)] pub *mut c_void);

// SAFETY: the SDK makes instances from `Send + Sync` values only.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// No instance.
    pub const NULL: Instance = Instance(std::ptr::null_mut());
}

/// The vtable of the interface.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = InstanceVtableRef, prefix_fields = InstanceVtablePrefix)))]
pub struct InstanceVtable {
    /// Builds an instance from its configuration (JSON, UTF-8), without
    /// outside effects. `context` stays valid until the library is unmapped,
    /// also when this function fails. On [`Status::OK`] `out` is set.
    pub prepare: unsafe extern "C" fn(
        context: HostContext,
        config: RStr<'_>,
        out: &mut Instance,
        sink: &Sink,
    ) -> Status,
    /// Takes over state of schema `schema_version`, before `activate`. Since 1.1
    /// it may be one that `migrate` would lead up from: the plugin then makes all
    /// steps at once, from value to value, and the last value is what it takes.
    pub restore: unsafe extern "C" fn(
        instance: Instance,
        schema_version: u32,
        state: RSlice<'_, u8>,
        sink: &Sink,
    ) -> Status,
    /// Takes exclusive resources: ports, files, background threads.
    pub activate: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Must pass before the instance is published.
    pub self_test: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Stops background work that changes state.
    pub freeze: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Undoes `freeze`.
    pub thaw: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Writes the state to the sink's body; may run beside calls.
    pub export: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Ends what the instance runs: background threads, runtime. Waits for
    /// them until `deadline_ns` (`CLOCK_MONOTONIC`).
    pub stop: unsafe extern "C" fn(instance: Instance, deadline_ns: u64, sink: &Sink) -> Status,
    /// Drops the instance. Consumes it whatever the status is. What the instance
    /// still runs, because `stop` was not called, is asked to end, not waited
    /// for.
    pub destroy: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
    /// Writes state of schema `from` in schema `to` to the body. Needs no
    /// instance. [`Status::NO_STEP`] where the plugin does not lead there.
    ///
    /// Of 1.0 it makes one step: from a schema to the next or the one before, or
    /// by field name from any that is older than all that the plugin declares to
    /// the oldest of these. Since 1.1 it makes any number of them, the very way
    /// that `restore` and `export_down` go, so that it can be told beforehand how
    /// they will fare; and with `to` equal to `from` it reads state as `restore`
    /// would, and writes nothing.
    pub migrate: unsafe extern "C" fn(from: u32, to: u32, state: RSlice<'_, u8>, sink: &Sink) -> Status,
    /// Writes the plugin's steps to the body: a JSON array of
    /// `{"from":1,"to":2,"kind":"hook"|"auto"}`.
    #[sabi(last_prefix_field)]
    pub steps: unsafe extern "C" fn(sink: &Sink) -> Status,
    /// As `export`, and writes the same state in the earlier schema `to` to
    /// [`Part::IMAGE`](crate::Part::IMAGE), over all steps down at once, from value
    /// to value. [`Status::NO_STEP`] where one is missing.
    pub export_down: unsafe extern "C" fn(instance: Instance, to: u32, sink: &Sink) -> Status,
}
