//! `replug.host`: what the engine offers to the plugins that it runs.

use super::{
    error::CallError,
    future::CallFuture,
    message::{CallOptions, default_deadline_ns},
    plugin_context::{PluginContext, Started, Work, context, guard},
    tables,
    waker::adopt,
};
use crate::{
    dispatch::{ChainToken, current_chain},
    failure::Failure,
    load::hand_on,
};
use abi_stable::{
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};
use replug_abi::{
    ForeignWaker, HostContext, HostVtable, HostVtableRef, LogRecord, Part, Pending, Request, Sink, Status,
    interface, words,
};
use std::{
    ffi::c_void,
    pin::Pin,
    task::{Context, Poll},
};

const VALUE: WithMetadata<HostVtable> = WithMetadata::new(HostVtable {
    log,
    log_level,
    call,
    start,
    poll,
    cancel,
    current_chain: chain,
    find,
    error,
});
static STATIC: &WithMetadata<HostVtable> = &VALUE;
static VTABLE: HostVtableRef = HostVtableRef(STATIC.static_as_prefix());

/// A plugin's context as the ABI has it. Valid for as long as the box that it is
/// in.
pub(crate) fn host_context(context: &PluginContext) -> HostContext {
    HostContext { data: std::ptr::from_ref(context).cast(), vtable: VTABLE.0.to_raw_ptr().cast() }
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

/// The vtables of the host's other interfaces.
unsafe extern "C" fn find(_: *const c_void, id: RStr<'_>) -> *const c_void {
    match id.as_str() {
        interface::TABLES => tables::vtable(),
        _ => std::ptr::null(),
    }
}

/// SAFETY: the text is valid for the call.
unsafe extern "C" fn error(_: *const c_void, part: Part, text: RSlice<'_, u8>) -> Status {
    guard(Status::PANIC, || words::note(part, text.as_slice()))
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
        forward(context, plugin.as_str(), request, sink).unwrap_or_else(|error| refuse(sink, &error))
    })
}

/// Makes one plugin's sync call of another, under the bounds of any call.
fn forward(
    context: &PluginContext,
    plugin: &str,
    request: &Request<'_>,
    sink: &Sink,
) -> Result<Status, CallError> {
    let (directory, entry) = context.callee(plugin)?;
    entry.take_in(&directory.limits, request.method.as_str(), request.body.as_slice())?;
    let _admitted = entry.admit(&directory.limits)?;
    let deadline_ns = match request.deadline_ns {
        0 => default_deadline_ns(),
        deadline_ns => deadline_ns,
    };
    let request = Request { deadline_ns, ..*request };
    // The callee writes to its caller's sink: no copy between them.
    let limits = directory.answer_limits();
    let route = entry.route(&context.plugin, request.sticky_key.as_slice());
    let called = entry.slot.enter_chained(ChainToken::from_raw(request.chain), route, |entered| {
        let (status, overflowed) = hand_on(limits, sink, |sink| entered.payload().call(&request, sink));
        if !status.is_ok() {
            entered.fail();
        }
        entry.note_deadline(deadline_ns, status);
        (status, overflowed)
    });
    match called.map_err(|source| directory.refused(&entry, source))? {
        (status, false) => Ok(status),
        (_, true) => Err(CallError::TooLarge {
            plugin: entry.name.clone(),
            what: "the answer",
            bytes_max: limits.body_bytes_max,
        }),
    }
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
        let (directory, entry) = match context.callee(plugin.as_str()) {
            Ok(callee) => callee,
            Err(error) => return refuse(sink, &error),
        };
        let parent = match request.chain {
            0 => current_chain(),
            chain => ChainToken::from_raw(chain),
        };
        let options = CallOptions::default()
            .content_type(request.content_type.as_str())
            .request_id(request.request_id.as_str())
            .trace_parent(request.trace_parent.as_str())
            .sticky_key(request.sticky_key.as_slice())
            .caller(&context.plugin);
        let (method, body) = (request.method.as_str(), request.body.as_slice());
        let future = CallFuture::new(entry, directory, method, body, options)
            .in_chain(parent)
            .until(request.deadline_ns);
        *out = context.started(Work::Call(Box::new(future)));
        Status::PENDING
    })
}

/// SAFETY: `pending` came from [`start`] and was not cancelled.
unsafe extern "C" fn poll(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
    guard(Status::REFUSED, || {
        // SAFETY: the caller's promise; a call is polled by one thread at once.
        let Started { work, calls } = unsafe { &mut *pending.0.cast::<Started>() };
        // SAFETY: lent for this call, by the version that the call is of.
        let waker = unsafe { adopt(waker, &calls.door) };
        let mut waiting = Context::from_waker(&waker);
        match work {
            Work::Call(call) => match Pin::new(&mut **call).poll(&mut waiting) {
                Poll::Pending => Status::PENDING,
                Poll::Ready(Ok(reply)) => {
                    // A sink that refuses says so by its own status.
                    let status = sink.write(Part::CONTENT_TYPE, reply.content_type().as_bytes());
                    if status.is_ok() { sink.write(Part::BODY, reply.body()) } else { status }
                }
                Poll::Ready(Err(error)) => {
                    tell(sink, &error);
                    Status::ERROR
                }
            },
            Work::Durable(durable) => match Pin::new(durable).poll(&mut waiting) {
                Poll::Pending => Status::PENDING,
                Poll::Ready(Ok(Ok(()))) => Status::OK,
                Poll::Ready(Ok(Err(error))) => {
                    sink.error(error.code().as_str(), &error.to_string(), false);
                    Status::ERROR
                }
                // Its store went without a word, as only a host that ends lets it.
                Poll::Ready(Err(_)) => refuse(sink, &CallError::Stopped),
            },
        }
    })
}

/// SAFETY: `pending` came from [`start`] and is not used afterwards.
unsafe extern "C" fn cancel(pending: Pending) -> Status {
    guard(Status::ERROR, || {
        // SAFETY: the caller's promise.
        let started = unsafe { Box::from_raw(pending.0.cast::<Started>()) };
        started.calls.lock().remove(&pending.0.addr());
        drop(started);
        Status::OK
    })
}

/// The call did not reach the plugin.
fn refuse(sink: &Sink, error: &CallError) -> Status {
    tell(sink, error);
    Status::REFUSED
}

fn tell(sink: &Sink, error: &CallError) {
    sink.error(error.code().as_str(), &error.to_string(), error.is_retryable());
}
