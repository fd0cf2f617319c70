//! A version that can be published: a library with an instance.

use super::open_tables::OpenTables;
use crate::{
    artifact::{inspect::Manifest, trust::Voucher},
    dispatch::{Outside, Payload},
    id::VersionId,
    load::{Converted, ExportedDown, Hook, HookError, InterfaceIndex, Loaded, StepInfo, Vtables},
};
use replug_abi::{ForeignWaker, Instance, Pending, Request, Sink, Status, TypedInterface};
use std::sync::{Arc, Mutex, PoisonError};

/// A loaded version and its instance.
///
/// Whoever holds a reference, through dispatch, keeps the library mapped; the
/// instance lives until the version is unloaded.
pub struct Serving {
    id: VersionId,
    voucher: Mutex<Voucher>,
    manifest: Arc<Manifest>,
    steps: Vec<StepInfo>,
    vtables: Vtables,
    tables: Arc<OpenTables>,
    loaded: Loaded,
    instance: Instance,
}

impl Serving {
    /// # Safety
    /// `instance` came from `loaded.prepare` and is given up to this value;
    /// `vtables` were found in `loaded`.
    pub(crate) unsafe fn new(
        (id, voucher): (VersionId, Voucher),
        manifest: Arc<Manifest>,
        steps: Vec<StepInfo>,
        vtables: Vtables,
        tables: Arc<OpenTables>,
        loaded: Loaded,
        instance: Instance,
    ) -> Self {
        Serving { id, voucher: Mutex::new(voucher), manifest, steps, vtables, tables, loaded, instance }
    }

    /// Which version this is.
    pub fn id(&self) -> &VersionId {
        &self.id
    }

    /// Who vouched for its file when that was judged last.
    pub(crate) fn voucher(&self) -> Voucher {
        self.voucher.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its file was judged again.
    pub(crate) fn set_voucher(&self, voucher: Voucher) {
        *self.voucher.lock().unwrap_or_else(PoisonError::into_inner) = voucher;
    }

    /// What the version says about itself.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The migration steps on offer; none without state.
    pub(crate) fn steps(&self) -> &[StepInfo] {
        &self.steps
    }

    /// The tables that the version has open.
    pub(crate) fn tables(&self) -> &Arc<OpenTables> {
        &self.tables
    }

    /// The schema in which this version writes the rows of a table; `None` when
    /// it has no such table open.
    pub fn table_schema(&self, table: &str) -> Option<u32> {
        self.tables.find(table).map(|open| open.view().schema())
    }

    /// Turns a row of a table into this version's schema, and into another one
    /// unless that is 0: from the first of `schemas` to the second. `None` when
    /// it has no such steps. Rows in the host are left as they are; it runs on
    /// this thread, for as long as the author's steps take.
    ///
    /// # Errors
    /// The hook's; more than `bytes_max` bytes of either are refused.
    pub fn convert_row(
        &self,
        table: &str,
        value: &[u8],
        schemas: (u32, u32),
        bytes_max: usize,
    ) -> Result<Option<Converted>, HookError> {
        // SAFETY: `instance` is of this library and lives as long as `self`.
        unsafe { self.loaded.convert_row(self.instance, table, value, schemas, bytes_max) }
    }

    /// The library.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The vtable of the typed interface `I`, if this version offers that.
    ///
    /// # Safety
    /// `index` is nowhere, or that of `I` in the host of this version; the vtable
    /// is used while this version is in memory only.
    #[inline(always)]
    pub(super) unsafe fn vtable<I: TypedInterface + ?Sized>(
        &self,
        index: InterfaceIndex,
    ) -> Option<I::Vtable> {
        // SAFETY: the vtables were found for the interfaces of this host; the rest
        // is the caller's promise.
        unsafe { self.vtables.get::<I>(index) }
    }

    /// What calls the typed interface `I`. An owned result may have
    /// `answer_bytes_max` bytes.
    ///
    /// # Safety
    /// `vtable` is [this version's](Self::vtable).
    #[inline(always)]
    pub(super) unsafe fn proxy<I: TypedInterface + ?Sized>(
        &self,
        vtable: I::Vtable,
        answer_bytes_max: usize,
    ) -> I::Proxy<'_> {
        // SAFETY: both are of this library, and `instance` lives as long as
        // `self`, which is borrowed for as long as the proxy.
        unsafe { I::proxy(self.instance, vtable, answer_bytes_max) }
    }

    /// Calls a method and waits for its answer.
    #[inline]
    pub(crate) fn call(&self, request: &Request<'_>, sink: &Sink) -> Status {
        // SAFETY: `instance` is of this library and lives as long as `self`.
        unsafe { self.loaded.call(self.instance, request, sink) }
    }

    /// Starts a method.
    pub(crate) fn start(&self, request: &Request<'_>, out: &mut Pending, sink: &Sink) -> Status {
        // SAFETY: as above; callers keep a lease while the call is pending.
        unsafe { self.loaded.start(self.instance, request, out, sink) }
    }

    /// # Safety
    /// `pending` came from [`start`](Serving::start) and was not cancelled.
    pub(crate) unsafe fn poll(&self, pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.loaded.poll(pending, waker, sink) }
    }

    /// # Safety
    /// `pending` came from [`start`](Serving::start) and is not used afterwards.
    pub(crate) unsafe fn cancel(&self, pending: Pending) {
        // SAFETY: the caller's promise.
        unsafe { self.loaded.cancel(pending) }
    }

    /// Runs a hook that may come more than once. The pipeline runs the hooks of
    /// a version one at a time.
    pub(crate) fn hook(&self, hook: Hook) -> Result<(), HookError> {
        debug_assert!(hook != Hook::Drop, "`destroy` is the way to drop an instance");
        // SAFETY: `instance` is of this library and lives as long as `self`;
        // only the pipeline calls hooks, one after the other.
        unsafe { self.loaded.hook(hook, self.instance) }
    }

    /// Hands state over; the version is not published yet.
    pub(crate) fn restore(&self, schema_version: u32, state: &[u8]) -> Result<(), HookError> {
        // SAFETY: as in `hook`, and nobody calls an unpublished version.
        unsafe { self.loaded.restore(self.instance, schema_version, state) }
    }

    /// The state as it is now, exported beside calls on this thread.
    ///
    /// # Errors
    /// The hook's; more than `bytes_max` bytes are refused.
    pub fn export(&self, bytes_max: usize) -> Result<Vec<u8>, HookError> {
        self.export_into(Vec::new(), bytes_max)
    }

    /// The same, in the memory of `buffer`.
    pub(crate) fn export_into(&self, buffer: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, HookError> {
        // SAFETY: as in `call`; export may run beside calls.
        unsafe { self.loaded.export(self.instance, bytes_max, buffer) }
    }

    /// The same, and the state in the earlier schema `to`; `None` if it has to be
    /// exported first and converted then.
    pub(crate) fn export_down(
        &self,
        to: u32,
        buffer: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Option<ExportedDown>, HookError> {
        // SAFETY: as in `export`.
        unsafe { self.loaded.export_down(self.instance, to, bytes_max, buffer) }
    }

    /// Ends what the instance runs.
    pub(crate) fn stop(&self, deadline_ns: u64) -> Result<(), HookError> {
        // SAFETY: as in `hook`.
        unsafe { self.loaded.stop(self.instance, deadline_ns) }
    }

    /// The methods, as the plugin describes them (JSON).
    pub(crate) fn methods(&self) -> Result<Vec<u8>, HookError> {
        // SAFETY: as in `call`.
        unsafe { self.loaded.methods(self.instance) }
    }

    /// Drops the instance.
    ///
    /// # Safety
    /// No call and no other hook runs or ever will; this comes once.
    pub(crate) unsafe fn destroy(&self) -> Result<(), HookError> {
        // SAFETY: `instance` is of this library, and the caller's promise.
        unsafe { self.loaded.hook(Hook::Drop, self.instance) }
    }

    /// The library, whose instance was destroyed.
    pub(crate) fn into_loaded(self) -> Loaded {
        self.loaded
    }
}

impl Payload for Serving {
    fn detach_thread(&self, _: &Outside) -> u64 {
        // SAFETY: outside of every call, says the core, which asks once.
        unsafe { self.loaded.detach_thread() }
    }
}
