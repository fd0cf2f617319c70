//! `replug.instance` over the author's traits.

#[cfg(all(test, feature = "async"))]
mod tests;

use super::{
    Exports, Model, answer, clock,
    fence::{fence, report},
    forward,
};
use crate::{Context, Error, Methods, Plugin, Result};
use abi_stable::{
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};
use replug_abi::{HostContext, Instance, InstanceVtable, InstanceVtableRef, Part, Sink, Status};
use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What is behind an [`Instance`], which owns one share of it. The plugin lies in
/// it, and not behind one more pointer that each typed call would follow.
pub(crate) struct Cell<P: 'static> {
    // Dropped top-down: the plugin may still use its context while it drops.
    pub(crate) plugin: P,
    pub(crate) methods: Methods<P>,
    pub(crate) context: Context,
}

impl<P: 'static> Cell<P> {
    /// SAFETY: `instance` is a live instance of `P`.
    pub(crate) unsafe fn borrow(instance: &Instance) -> &Cell<P> {
        // SAFETY: the caller's promise.
        unsafe { &*instance.0.cast::<Cell<P>>() }
    }

    /// An instance that owns the cell.
    pub(crate) fn into_instance(self) -> Instance {
        Instance(Arc::into_raw(Arc::new(self)).cast_mut().cast())
    }

    /// Takes the cell back from its instance, which is no more.
    ///
    /// SAFETY: `instance` is a live instance of `P`, and is not used again.
    pub(crate) unsafe fn from_instance(instance: Instance) -> Arc<Cell<P>> {
        // SAFETY: the caller's promise; `into_instance` made it of an `Arc`.
        unsafe { Arc::from_raw(instance.0.cast::<Cell<P>>()) }
    }

    /// One more owner.
    ///
    /// SAFETY: `instance` is a live instance of `P`.
    #[cfg(feature = "async")]
    pub(crate) unsafe fn share(instance: &Instance) -> Arc<Cell<P>> {
        let cell = instance.0.cast_const().cast::<Cell<P>>();
        // SAFETY: the caller's promise, and as above: the instance keeps its own.
        unsafe {
            Arc::increment_strong_count(cell);
            Arc::from_raw(cell)
        }
    }
}

#[cfg(feature = "async")]
impl<P: 'static> AsRef<P> for Cell<P> {
    fn as_ref(&self) -> &P {
        &self.plugin
    }
}

/// The instance vtable of a plugin type with an identity and a state model.
pub struct InstanceTable<P, E, M>(PhantomData<(P, E, M)>);

impl<P: Plugin, E: Exports, M: Model<P>> InstanceTable<P, E, M> {
    const VALUE: WithMetadata<InstanceVtable> = WithMetadata::new(InstanceVtable {
        prepare: Self::prepare,
        restore: Self::restore,
        activate: Self::activate,
        self_test: Self::self_test,
        freeze: Self::freeze,
        thaw: Self::thaw,
        export: Self::export,
        stop: Self::stop,
        destroy: Self::destroy,
        migrate: Self::migrate,
        steps: Self::steps,
        export_down: Self::export_down,
    });
    const STATIC: &'static WithMetadata<InstanceVtable> = &Self::VALUE;

    /// The vtable, to be put into the root module.
    pub const VTABLE: InstanceVtableRef = InstanceVtableRef(Self::STATIC.static_as_prefix());

    unsafe extern "C" fn prepare(
        host: HostContext,
        config: RStr<'_>,
        out: &mut Instance,
        sink: &Sink,
    ) -> Status {
        fence(sink, || {
            forward::install(host);
            let config = match parse_config::<P::Config>(config.as_str()) {
                Ok(config) => config,
                Err(message) => {
                    sink.error("config.invalid", &message, false);
                    return Status::BAD_CONFIG;
                }
            };
            let context = Context::new(host, E::NAME, E::VERSION, E::TABLES);
            let unless_made = Abandon(&context);
            match P::prepare(config, &context) {
                Ok(plugin) => {
                    let methods = Methods::of_plugin();
                    std::mem::forget(unless_made);
                    *out = Cell { plugin, methods, context }.into_instance();
                    Status::OK
                }
                Err(error) => answer::write_error(&error, sink),
            }
        })
    }

    unsafe extern "C" fn restore(
        instance: Instance,
        schema_version: u32,
        state: RSlice<'_, u8>,
        sink: &Sink,
    ) -> Status {
        fence(sink, || {
            // SAFETY: the host calls this on a live instance; what is taken here
            // is not given up.
            let mut cell = unsafe { ManuallyDrop::new(Cell::<P>::from_instance(instance)) };
            let Some(Cell { plugin, .. }) = Arc::get_mut(&mut cell) else {
                let error =
                    Error::new("restore.shared", "state can only be restored before the instance is used");
                return answer::write_error(&error, sink);
            };
            match M::restore(plugin, schema_version, state.as_slice()) {
                Ok(Some(())) => Status::OK,
                Ok(None) => Status::UNSUPPORTED,
                Err(error) => answer::write_error(&error, sink),
            }
        })
    }

    unsafe extern "C" fn activate(instance: Instance, sink: &Sink) -> Status {
        // SAFETY: `instance` is a live instance of `P`, the host's promise.
        unsafe { Self::hook(instance, sink, P::activate) }
    }

    unsafe extern "C" fn self_test(instance: Instance, sink: &Sink) -> Status {
        // SAFETY: as in `activate`.
        unsafe { Self::hook(instance, sink, P::self_test) }
    }

    unsafe extern "C" fn freeze(instance: Instance, sink: &Sink) -> Status {
        // SAFETY: as in `activate`.
        unsafe { Self::hook(instance, sink, P::freeze) }
    }

    unsafe extern "C" fn thaw(instance: Instance, sink: &Sink) -> Status {
        // SAFETY: as in `activate`.
        unsafe { Self::hook(instance, sink, P::thaw) }
    }

    unsafe extern "C" fn export(instance: Instance, sink: &Sink) -> Status {
        fence(sink, || {
            // SAFETY: as in `activate`.
            let cell = unsafe { Cell::<P>::borrow(&instance) };
            match M::export(&cell.plugin, sink) {
                Ok(Some(status)) => status,
                Ok(None) => Status::UNSUPPORTED,
                Err(error) => answer::write_error(&error, sink),
            }
        })
    }

    unsafe extern "C" fn stop(instance: Instance, deadline_ns: u64, sink: &Sink) -> Status {
        fence(sink, || {
            // SAFETY: as in `activate`.
            let cell = unsafe { Cell::<P>::borrow(&instance) };
            // What it runs is ended also when the author's hook panics.
            let stopped = catch_unwind(AssertUnwindSafe(|| cell.plugin.stop()));
            let shared = &cell.context.shared;
            let threads = shared.tasks.stop(clock::until(deadline_ns));
            #[cfg(feature = "async")]
            shared.runtime.stop(clock::until(deadline_ns));
            match (stopped, threads) {
                (Err(payload), _) => report(sink, payload),
                (Ok(_), Err(names)) => {
                    let message = format!("threads did not end when asked to: {}", names.join(", "));
                    answer::write_error(&Error::new("stop.threads", message), sink)
                }
                (Ok(stopped), Ok(())) => answer::write_unit(stopped, sink),
            }
        })
    }

    unsafe extern "C" fn destroy(instance: Instance, sink: &Sink) -> Status {
        fence(sink, || {
            // SAFETY: the host ends an instance exactly once, and uses it no
            // more.
            let cell = unsafe { Cell::<P>::from_instance(instance) };
            // For a host that did not stop it; after a stop nothing is left.
            cell.context.shared.abandon();
            drop(cell);
            Status::OK
        })
    }

    unsafe extern "C" fn migrate(from: u32, to: u32, state: RSlice<'_, u8>, sink: &Sink) -> Status {
        fence(sink, || match M::migrate(from, to, state.as_slice(), sink) {
            Ok(Some(status)) => status,
            Ok(None) => Status::NO_STEP,
            Err(error) => answer::write_error(&error, sink),
        })
    }

    unsafe extern "C" fn steps(sink: &Sink) -> Status {
        fence(sink, || match serde_json::to_vec(&M::steps()) {
            Ok(json) => sink.write(Part::BODY, &json),
            Err(error) => answer::write_error(&error.into(), sink),
        })
    }

    unsafe extern "C" fn export_down(instance: Instance, to: u32, sink: &Sink) -> Status {
        fence(sink, || {
            // SAFETY: as in `activate`.
            let cell = unsafe { Cell::<P>::borrow(&instance) };
            match M::export_down(&cell.plugin, to, sink) {
                Ok(Some(status)) => status,
                Ok(None) => Status::NO_STEP,
                Err(error) => answer::write_error(&error, sink),
            }
        })
    }

    /// SAFETY: `instance` is a live instance of `P`.
    unsafe fn hook(instance: Instance, sink: &Sink, hook: fn(&P) -> Result<()>) -> Status {
        fence(sink, || {
            // SAFETY: the caller's promise.
            let cell = unsafe { Cell::<P>::borrow(&instance) };
            answer::write_unit(hook(&cell.plugin), sink)
        })
    }
}

/// Asks what an instance runs to end, if it does not come to an instance: there
/// is none to be stopped, and threads that go on keep the library in memory.
struct Abandon<'a>(&'a Context);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.shared.abandon();
    }
}

/// Reads a configuration. Nothing configured is an empty map, or null for types
/// that are none: `()`, `Option`.
fn parse_config<C: serde::de::DeserializeOwned>(json: &str) -> std::result::Result<C, String> {
    if !matches!(json.trim(), "" | "null") {
        return serde_json::from_str(json).map_err(|error| error.to_string());
    }
    serde_json::from_str("{}")
        .or_else(|error| serde_json::from_str("null").map_err(|_| error))
        .map_err(|error| error.to_string())
}
