//! `replug.host`: what the engine offers to the plugins that it runs.

use super::{directory::Directory, future::CallFuture, message::CallOptions};
use crate::{
    dispatch::{ChainToken, current_chain},
    failure::{Code, Failure},
    id::VersionId,
};
use abi_stable::{prefix_type::WithMetadata, std_types::RStr};
use replug_abi::{
    ForeignWaker, HostContext, HostVtable, HostVtableRef, LogRecord, Part, Pending, Request, Sink, Status,
};
use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
};

/// What is behind the `data` of a plugin's host context.
pub(crate) struct PluginContext {
    directory: Weak<Directory>,
    plugin: String,
    version: String,
}

impl PluginContext {
    pub(crate) fn new(directory: &Arc<Directory>, id: &VersionId) -> Box<Self> {
        Box::new(PluginContext {
            directory: Arc::downgrade(directory),
            plugin: id.name.to_string(),
            version: id.version.to_string(),
        })
    }

    /// The context as the ABI has it. Valid for as long as the box.
    pub(crate) fn as_host_context(&self) -> HostContext {
        HostContext { data: std::ptr::from_ref(self).cast(), vtable: VTABLE.0.to_raw_ptr().cast() }
    }
}

const VALUE: WithMetadata<HostVtable> =
    WithMetadata::new(HostVtable { log, log_level, call, start, poll, cancel, current_chain: chain });
static STATIC: &WithMetadata<HostVtable> = &VALUE;
static VTABLE: HostVtableRef = HostVtableRef(STATIC.static_as_prefix());

/// SAFETY: `data` is the `PluginContext` of a plugin that is loaded.
unsafe fn context<'a>(data: *const c_void) -> &'a PluginContext {
    // SAFETY: see above; the engine frees it after the library.
    unsafe { &*data.cast::<PluginContext>() }
}

/// SAFETY: as for [`context`]; the record is valid for the call.
unsafe extern "C" fn log(data: *const c_void, record: &LogRecord<'_>) {
    guard((), || {
        // SAFETY: the caller's promise.
        let context = unsafe { context(data) };
        let fields: Vec<String> = record
            .fields
            .iter()
            .map(|field| format!("{}={}", field.name.as_str(), field.value.as_str()))
            .collect();
        let (plugin, version) = (context.plugin.as_str(), context.version.as_str());
        let (target, message, fields) = (record.target.as_str(), record.message.as_str(), fields.join(" "));
        // A fixed set of callsites: metadata of the plugin's own would dangle
        // in the subscriber once the library is gone.
        match record.level {
            1 => {
                tracing::error!(target: "plugin", plugin, version, from = target, fields, "{message}")
            }
            2 => {
                tracing::warn!(target: "plugin", plugin, version, from = target, fields, "{message}")
            }
            3 => {
                tracing::info!(target: "plugin", plugin, version, from = target, fields, "{message}")
            }
            4 => {
                tracing::debug!(target: "plugin", plugin, version, from = target, fields, "{message}")
            }
            _ => {
                tracing::trace!(target: "plugin", plugin, version, from = target, fields, "{message}")
            }
        }
    });
}

unsafe extern "C" fn log_level(_: *const c_void) -> u32 {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}

unsafe extern "C" fn chain(_: *const c_void) -> u64 {
    current_chain().to_raw()
}

/// SAFETY: as for [`context`]; the rest is valid for the call.
unsafe extern "C" fn call(
    data: *const c_void,
    plugin: RStr<'_>,
    request: &Request<'_>,
    sink: &Sink,
) -> Status {
    guard(Status::REFUSED, || {
        // SAFETY: the caller's promise.
        let context = unsafe { context(data) };
        let Some(directory) = context.directory.upgrade() else {
            return refuse(sink, Code::HostStopped, "the host has stopped");
        };
        let Some(entry) = directory.find(plugin.as_str()) else {
            let message = format!("there is no plugin {:?}", plugin.as_str());
            return refuse(sink, Code::CallUnknownPlugin, &message);
        };
        // The callee writes to its caller's sink: no copy between them.
        let called = entry.slot.enter_chained(ChainToken::from_raw(request.chain), |entered| {
            let status = entered.payload().call(request, sink);
            if !status.is_ok() {
                entered.fail();
            }
            status
        });
        called.unwrap_or_else(|error| {
            refuse(sink, error.code(), &format!("plugin {}: {error}", plugin.as_str()))
        })
    })
}

/// SAFETY: as for [`call`].
unsafe extern "C" fn start(
    data: *const c_void,
    plugin: RStr<'_>,
    request: &Request<'_>,
    out: &mut Pending,
    sink: &Sink,
) -> Status {
    guard(Status::REFUSED, || {
        // SAFETY: the caller's promise.
        let context = unsafe { context(data) };
        let Some(directory) = context.directory.upgrade() else {
            return refuse(sink, Code::HostStopped, "the host has stopped");
        };
        let Some(entry) = directory.find(plugin.as_str()) else {
            let message = format!("there is no plugin {:?}", plugin.as_str());
            return refuse(sink, Code::CallUnknownPlugin, &message);
        };
        let parent = match request.chain {
            0 => current_chain(),
            chain => ChainToken::from_raw(chain),
        };
        let options = CallOptions::default()
            .content_type(request.content_type.as_str())
            .request_id(request.request_id.as_str())
            .trace_parent(request.trace_parent.as_str())
            .sticky_key(request.sticky_key.as_slice());
        let future = CallFuture::new(
            entry,
            directory,
            request.method.as_str(),
            request.body.as_slice(),
            options,
            None,
        )
        .in_chain(parent)
        .until(request.deadline_ns);
        *out = Pending(Box::into_raw(Box::new(future)).cast());
        Status::PENDING
    })
}

/// SAFETY: `pending` came from [`start`] and was not cancelled.
unsafe extern "C" fn poll(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
    guard(Status::REFUSED, || {
        // SAFETY: the caller's promise; a call is polled by one thread at once.
        let future = unsafe { &mut *pending.0.cast::<CallFuture>() };
        let waker = Waker::from(Arc::new(Foreign::of(waker)));
        match Future::poll(Pin::new(future), &mut Context::from_waker(&waker)) {
            Poll::Pending => Status::PENDING,
            Poll::Ready(Ok(reply)) => {
                // A sink that refuses says so by its own status.
                let status = sink.write(Part::CONTENT_TYPE, reply.content_type().as_bytes());
                if status.is_ok() { sink.write(Part::BODY, reply.body()) } else { status }
            }
            Poll::Ready(Err(error)) => {
                sink.error(error.code().as_str(), &error.to_string(), error.is_retryable());
                Status::ERROR
            }
        }
    })
}

/// SAFETY: `pending` came from [`start`] and is not used afterwards.
unsafe extern "C" fn cancel(pending: Pending) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(pending.0.cast::<CallFuture>()) });
        Status::OK
    })
}

fn refuse(sink: &Sink, code: Code, message: &str) -> Status {
    sink.error(code.as_str(), message, code == Code::GateTimeout);
    Status::REFUSED
}

/// Keeps panics of the engine and of its subscribers out of the plugin.
fn guard<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// A plugin's waker on this side.
struct Foreign {
    data: *const c_void,
    wake: unsafe extern "C" fn(*const c_void),
    drop: unsafe extern "C" fn(*const c_void),
}

// SAFETY: the ABI demands that a waker's functions may be called from any
// thread.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Foreign {
    fn of(lent: &ForeignWaker) -> Self {
        // SAFETY: `lent` is valid during the call that lent it.
        let data = unsafe { (lent.clone)(lent.data) };
        Foreign { data, wake: lent.wake_by_ref, drop: lent.drop }
    }
}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // SAFETY: `data` is the reference that this value owns.
        unsafe { (self.wake)(self.data) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the reference is given up exactly once, here.
        unsafe { (self.drop)(self.data) }
    }
}
