//! The plugin's view of its host.

use crate::{
    Reply, Result, glue,
    tasks::{StopSignal, Tasks},
};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{HostContext, HostVtableRef, LogField, LogRecord, Request};
use std::{ffi::c_void, sync::Arc};

/// The host, as one instance sees it. Cheap to clone; usable from any thread
/// of the plugin until its instance is dropped.
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    chain: u64,
}

pub(crate) struct Shared {
    host: HostContext,
    name: &'static str,
    version: &'static str,
    pub(crate) tasks: Tasks,
    #[cfg(feature = "async")]
    pub(crate) runtime: crate::runtime::Runtime,
}

impl Context {
    pub(crate) fn new(host: HostContext, name: &'static str, version: &'static str) -> Self {
        let shared = Shared {
            host,
            name,
            version,
            tasks: Tasks::default(),
            #[cfg(feature = "async")]
            runtime: crate::runtime::Runtime::new(name),
        };
        Context { shared: Arc::new(shared), chain: 0 }
    }

    /// The plugin's own name.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The plugin's own version.
    pub fn version(&self) -> &'static str {
        self.shared.version
    }

    /// Calls a method of another plugin of the host, or of this one, and waits
    /// for the answer on this thread.
    ///
    /// # Errors
    /// The other plugin's own error, or the host's: `call.unknown_plugin`,
    /// `call.unknown_method`, `call.depth` when plugins call each other without
    /// end, `gate.timeout` while the other hands its state over.
    pub fn call(&self, plugin: &str, method: &str, body: &[u8]) -> Result<Reply> {
        let mut request = Request::new(method, body);
        request.chain = self.chain;
        let mut answer = glue::answer::Answer::default();
        let status = {
            let sink = answer.sink();
            // SAFETY: the host keeps `data` valid while the instance lives,
            // which `self` is part of; request and sink outlive the call.
            unsafe { self.vtable().call()(self.shared.host.data, RStr::from_str(plugin), &request, &sink) }
        };
        answer.into_result(status, method)
    }

    /// As [`call`](Context::call), without holding a thread.
    ///
    /// # Errors
    /// As [`call`](Context::call). Dropping the future cancels the call.
    #[cfg(feature = "async")]
    pub async fn call_async(&self, plugin: &str, method: &str, body: &[u8]) -> Result<Reply> {
        let mut request = Request::new(method, body);
        request.chain = self.chain;
        let pending = {
            let mut answer = glue::answer::Answer::default();
            let mut pending = replug_abi::Pending::NULL;
            let status = {
                let sink = answer.sink();
                // SAFETY: as in `call`; the host copies what must outlive it.
                unsafe {
                    self.vtable().start()(
                        self.shared.host.data,
                        RStr::from_str(plugin),
                        &request,
                        &mut pending,
                        &sink,
                    )
                }
            };
            if status != replug_abi::Status::PENDING {
                return answer.into_result(status, method);
            }
            glue::outgoing::Outgoing::new(self.clone(), pending, method)
        };
        pending.await
    }

    /// Runs a thread that the host stops and waits for before it unloads the
    /// plugin. The closure returns soon after the signal says stop.
    ///
    /// # Errors
    /// When the system cannot start another thread, or the instance is already
    /// stopping.
    pub fn spawn<F>(&self, name: &str, body: F) -> Result<()>
    where
        F: FnOnce(StopSignal) + Send + 'static,
    {
        self.shared.tasks.spawn(name, body)
    }

    /// The same host for work that a call caused on another thread: its own
    /// calls then belong to that call's chain.
    pub(crate) fn in_chain(&self, chain: u64) -> Context {
        Context { shared: Arc::clone(&self.shared), chain }
    }

    pub(crate) fn current_chain(&self) -> u64 {
        // SAFETY: the host keeps `data` valid while the instance lives.
        unsafe { self.vtable().current_chain()(self.shared.host.data) }
    }

    pub(crate) fn vtable(&self) -> HostVtableRef {
        host_vtable(&self.shared.host)
    }
}

/// The host's vtable behind its erased pointer.
pub(crate) fn host_vtable(host: &HostContext) -> HostVtableRef {
    // SAFETY: the host checked the layout of this type against its own before
    // it called the plugin, and keeps the vtable for as long as the context.
    unsafe { std::mem::transmute::<*const c_void, HostVtableRef>(host.vtable) }
}

/// Writes one line to the host's log.
pub(crate) fn log(host: &HostContext, level: u32, target: &str, message: &str, fields: &[LogField<'_>]) {
    let record = LogRecord {
        level,
        target: RStr::from_str(target),
        message: RStr::from_str(message),
        fields: RSlice::from_slice(fields),
    };
    // SAFETY: `host` is valid while the instance lives; the record is borrowed
    // for the call only.
    unsafe { host_vtable(host).log()(host.data, &record) }
}
