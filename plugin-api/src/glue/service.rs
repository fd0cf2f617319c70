//! `replug.service` over the table of methods.

use super::{
    answer,
    fence::{fence, fence_silent},
    instance::Cell,
};
#[cfg(feature = "async")]
use crate::Shared;
use crate::{Call, Plugin, methods::Handler};
use abi_stable::prefix_type::WithMetadata;
use replug_abi::{
    ForeignWaker, Instance, Part, Pending, Request, ServiceVtable, ServiceVtableRef, Sink, Status,
};
use std::marker::PhantomData;

/// The service vtable of a plugin type.
pub struct ServiceTable<P>(PhantomData<P>);

impl<P: Plugin> ServiceTable<P> {
    const VALUE: WithMetadata<ServiceVtable> = WithMetadata::new(ServiceVtable {
        call: call::<P>,
        start: start::<P>,
        poll,
        cancel,
        methods: methods::<P>,
    });
    const STATIC: &'static WithMetadata<ServiceVtable> = &Self::VALUE;

    /// The vtable, to be put into the root module.
    pub const VTABLE: ServiceVtableRef = ServiceVtableRef(Self::STATIC.static_as_prefix());
}

/// SAFETY: `instance` is a live instance of `P`.
unsafe extern "C" fn call<P: Plugin>(instance: Instance, request: &Request<'_>, sink: &Sink) -> Status {
    fence(sink, || {
        // SAFETY: the host calls with instances that `prepare` made and that
        // `destroy` has not ended.
        let cell = unsafe { Cell::<P>::borrow(&instance) };
        let Some(method) = cell.methods.find(request.method.as_str()) else {
            return no_method(cell, request, sink);
        };
        let call = Call::new(request, &cell.context);
        match &method.handler {
            Handler::Sync(handler) => answer::write(handler(&cell.plugin, &call), sink),
            #[cfg(feature = "async")]
            Handler::Async(handler) => match cell.context.shared.runtime.handle() {
                Ok(runtime) => {
                    // SAFETY: as above.
                    let plugin = Shared::new(unsafe { Cell::<P>::share(&instance) });
                    let future = handler(plugin, call.to_owned());
                    super::pending::block_on(&runtime, future, call.time_left(), sink)
                }
                Err(error) => answer::write_error(&error.into(), sink),
            },
        }
    })
}

/// SAFETY: `instance` is a live instance of `P`.
unsafe extern "C" fn start<P: Plugin>(
    instance: Instance,
    request: &Request<'_>,
    out: &mut Pending,
    sink: &Sink,
) -> Status {
    fence(sink, || {
        // SAFETY: as in `call`.
        let cell = unsafe { Cell::<P>::borrow(&instance) };
        let Some(method) = cell.methods.find(request.method.as_str()) else {
            return no_method(cell, request, sink);
        };
        let call = Call::new(request, &cell.context);
        match &method.handler {
            Handler::Sync(handler) => {
                // Answered at once: a sync method has nothing to wait for.
                let _ = out;
                answer::write(handler(&cell.plugin, &call), sink)
            }
            #[cfg(feature = "async")]
            Handler::Async(handler) => match cell.context.shared.runtime.handle() {
                Ok(runtime) => {
                    // SAFETY: as in `call`.
                    let plugin = Shared::new(unsafe { Cell::<P>::share(&instance) });
                    let future = handler(plugin, call.to_owned());
                    *out = super::pending::Task::start(&runtime, future);
                    Status::PENDING
                }
                Err(error) => answer::write_error(&error.into(), sink),
            },
        }
    })
}

#[cfg(feature = "async")]
/// SAFETY: `pending` came from `start` and was not cancelled.
unsafe extern "C" fn poll(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
    // SAFETY: the host's promise, as written in the ABI.
    fence(sink, || unsafe { super::pending::Task::poll(pending, waker, sink) })
}

#[cfg(feature = "async")]
/// SAFETY: `pending` came from `start` and is not used afterwards.
unsafe extern "C" fn cancel(pending: Pending) -> Status {
    fence_silent(|| {
        // SAFETY: the host's promise, as written in the ABI.
        unsafe { super::pending::Task::cancel(pending) };
        Status::OK
    })
}

#[cfg(not(feature = "async"))]
unsafe extern "C" fn poll(_: Pending, _: &ForeignWaker, _: &Sink) -> Status {
    Status::UNSUPPORTED
}

#[cfg(not(feature = "async"))]
unsafe extern "C" fn cancel(_: Pending) -> Status {
    fence_silent(|| Status::UNSUPPORTED)
}

/// SAFETY: `instance` is a live instance of `P`.
unsafe extern "C" fn methods<P: Plugin>(instance: Instance, sink: &Sink) -> Status {
    fence(sink, || {
        // SAFETY: as in `call`.
        let cell = unsafe { Cell::<P>::borrow(&instance) };
        let list: Vec<_> = cell
            .methods
            .iter()
            .map(|method| {
                let kind = match method.handler {
                    Handler::Sync(_) => "sync",
                    #[cfg(feature = "async")]
                    Handler::Async(_) => "async",
                };
                let (name, description) = (method.name, method.description);
                let mut listed =
                    serde_json::json!({ "name": name, "kind": kind, "description": description });
                if method.is_repeatable {
                    listed["repeatable"] = true.into();
                }
                if !method.samples.is_empty() {
                    listed["samples"] = method.samples.iter().map(|body| sample(body)).collect();
                }
                listed
            })
            .collect();
        sink.write(Part::BODY, serde_json::Value::from(list).to_string().as_bytes())
    })
}

/// Text where it is text, else an array of bytes.
fn sample(body: &[u8]) -> serde_json::Value {
    std::str::from_utf8(body).map_or_else(|_| body.into(), Into::into)
}

#[cold]
fn no_method<P: Plugin>(cell: &Cell<P>, request: &Request<'_>, sink: &Sink) -> Status {
    let known: Vec<_> = cell.methods.iter().map(|method| method.name).collect();
    let message = format!("no method {:?}; there are: {}", request.method.as_str(), known.join(", "));
    sink.error("call.unknown_method", &message, false);
    Status::NO_METHOD
}
