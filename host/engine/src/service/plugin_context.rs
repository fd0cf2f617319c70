//! What a host keeps for a plugin that it runs, behind the pointer which the
//! plugin hands back with each function that it calls.

use super::{
    directory::{Directory, Entry},
    error::CallError,
    future::CallFuture,
    open_tables::OpenTables,
};
use crate::{id::VersionId, load::Door, table::TableError};
use replug_abi::Pending;
use std::{
    collections::BTreeSet,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::sync::oneshot;

/// What is behind the `data` of a plugin's host context.
pub(crate) struct PluginContext {
    directory: Weak<Directory>,
    pub(super) plugin: String,
    pub(super) version: String,
    calls: Arc<OpenCalls>,
    tables: Arc<OpenTables>,
}

impl PluginContext {
    /// `door` is that of the library which the context is for.
    pub(crate) fn new(directory: &Arc<Directory>, id: &VersionId, door: &Arc<Door>) -> Box<Self> {
        Box::new(PluginContext {
            directory: Arc::downgrade(directory),
            plugin: id.name.to_string(),
            version: id.version.to_string(),
            calls: Arc::new(OpenCalls { door: Arc::clone(door), open: Mutex::default() }),
            tables: OpenTables::new(&id.name, &directory.tables),
        })
    }

    /// The tables that the version has open.
    pub(crate) fn tables(&self) -> &Arc<OpenTables> {
        &self.tables
    }

    /// Keeps something that is under way for the plugin to poll, until it is
    /// cancelled.
    pub(super) fn started(&self, work: Work) -> Pending {
        let calls = Arc::clone(&self.calls);
        let started = Box::into_raw(Box::new(Started { work, calls }));
        self.calls.lock().insert(started.expose_provenance());
        Pending(started.cast())
    }

    /// The plugin that a call is for.
    pub(super) fn callee(&self, plugin: &str) -> Result<(Arc<Directory>, Arc<Entry>), CallError> {
        let directory = self.directory.upgrade().ok_or(CallError::Stopped)?;
        let entry = directory.find(plugin);
        let entry = entry.ok_or_else(|| CallError::UnknownPlugin { name: plugin.to_owned() })?;
        Ok((directory, entry))
    }
}

impl Drop for PluginContext {
    /// The library is gone, and calls that its author forgot are still open:
    /// they would hold the versions that they are in for ever.
    fn drop(&mut self) {
        let forgotten = std::mem::take(&mut *self.calls.lock());
        for call in forgotten {
            // SAFETY: `start` made the box; only `cancel` takes it, which takes
            // its address out of the set, and no code is left that calls it.
            drop(unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<Started>(call)) });
        }
    }
}

/// The async calls that one version has started and not ended, by address.
pub(super) struct OpenCalls {
    pub(super) door: Arc<Door>,
    open: Mutex<BTreeSet<usize>>,
}

impl OpenCalls {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is behind a `Pending` that a plugin was given.
pub(super) struct Started {
    pub(super) work: Work,
    pub(super) calls: Arc<OpenCalls>,
}

/// What a plugin waits for.
pub(super) enum Work {
    /// The answer of a plugin.
    Call(Box<CallFuture>),
    /// That a write to a table is durable.
    Durable(oneshot::Receiver<Result<(), TableError>>),
}

/// SAFETY: `data` is the `PluginContext` of a plugin that is loaded.
pub(super) unsafe fn context<'a>(data: *const c_void) -> &'a PluginContext {
    // SAFETY: see above; the engine frees it after the library.
    unsafe { &*data.cast::<PluginContext>() }
}

/// Keeps panics of the engine and of its subscribers out of the plugin.
pub(super) fn guard<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}
