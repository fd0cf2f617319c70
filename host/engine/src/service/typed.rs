//! Calls through a typed interface, which embedder and plugins share.

use super::{
    directory::{Directory, Entry},
    error::CallError,
    handle::Plugin,
    serving::Serving,
};
use crate::{
    dispatch::{Refused, Route, Running},
    failure::{Code, Failure},
    id::PluginName,
    load::InterfaceIndex,
};
use replug_abi::{Fault, FaultKind, TypedInterface};
use std::{marker::PhantomData, sync::Arc};

/// A plugin's typed interface `I`, whichever version serves.
///
/// Declared in a crate that the embedder and the plugins share, with the
/// attribute `interface` of `replug_plugin_api::interface`, and
/// [registered](crate::HostBuilder::interface) with the host. Cheap to clone,
/// usable from any thread; it stays valid while versions come and go.
///
/// ```
/// # mod shared {
/// use replug_plugin_api::interface::interface;
///
/// /// Decides which lines are kept.
/// #[interface(id = "logs.filter", version = "1.1.0")]
/// pub trait Filter {
///     /// Whether the line is kept.
///     fn keep(&self, line: &str) -> bool;
///     /// How many were.
///     #[since = "1.1"]
///     fn kept(&self) -> u64;
/// }
/// # }
/// # use shared::Filter;
/// use replug_host::{Host, Typed};
///
/// fn count(filter: &Typed<dyn Filter>, lines: &[&str]) -> Result<Option<u64>, Box<replug_host::CallError>> {
///     filter.call(|filter| {
///         for line in lines {
///             filter.keep(line)?;
///         }
///         if filter.has_kept() { filter.kept().map(Some) } else { Ok(None) }
///     })
/// }
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::builder("plugins").interface::<dyn Filter>().start()?;
/// let filter = host.plugin("filter")?.typed::<dyn Filter>()?;
/// println!("{:?}", count(&filter, &["one", "two"])?);
/// # Ok(())
/// # }
/// ```
pub struct Typed<I: TypedInterface + ?Sized> {
    entry: Arc<Entry>,
    directory: Arc<Directory>,
    index: InterfaceIndex,
    // Where a call looks first: nowhere, if calls in flight are counted, so that
    // one question sends it to the cold path for this and for all else.
    hot_index: InterfaceIndex,
    answer_bytes_max: usize,
    interface: PhantomData<fn() -> Box<I>>,
}

impl<I: TypedInterface + ?Sized> Clone for Typed<I> {
    fn clone(&self) -> Self {
        Typed { entry: Arc::clone(&self.entry), directory: Arc::clone(&self.directory), ..*self }
    }
}

impl Plugin {
    /// The plugin's typed interface `I`: `typed::<dyn Filter>()`. Whether the
    /// version that serves has it is found out by a call.
    ///
    /// # Errors
    /// [`NotRegistered`], when the host was started without the interface.
    pub fn typed<I: TypedInterface + ?Sized>(&self) -> Result<Typed<I>, NotRegistered> {
        let (entry, directory) = self.parts();
        let index =
            directory.interfaces.index::<I>().ok_or_else(|| NotRegistered { interface: named::<I>() })?;
        Ok(Typed {
            entry: Arc::clone(entry),
            directory: Arc::clone(directory),
            index,
            hot_index: directory.limits.in_flight_max.map_or(index, |_| InterfaceIndex::NOWHERE),
            answer_bytes_max: directory.limits.answer_bytes_max,
            interface: PhantomData,
        })
    }
}

impl<I: TypedInterface + ?Sized> Typed<I> {
    /// The plugin's name.
    pub fn plugin(&self) -> &PluginName {
        &self.entry.name
    }

    /// Runs `use_it` with the interface of the version that serves, on this
    /// thread. All methods that it calls are those of one version, which stays
    /// until the closure returns: entering it costs about a nanosecond, a method
    /// what a function pointer does. What a method lends cannot leave the
    /// closure.
    ///
    /// While a hand-over goes on, the call waits for it, up to the host's
    /// `gate_timeout`.
    ///
    /// A [`Fault`] does not say whose it is: one that leaves the closure is taken
    /// for this plugin's. Inside of a closure, deal with what a call of another
    /// plugin answers there, or hand it on in the `Ok`:
    /// `outer.call(|outer| Ok(inner.call(|inner| …)))??`.
    ///
    /// # Errors
    /// [`CallError`]: the closure's [`Fault`], which counts as a failed call of
    /// the version; or why there was no call at all, and then the closure was
    /// not run: `gate.timeout`, `call.not_active`, `call.unknown_interface`. In a
    /// box, because a result costs as much as it is wide.
    #[inline]
    pub fn call<R>(
        &self,
        use_it: impl for<'call> FnOnce(I::Proxy<'call>) -> Result<R, Fault>,
    ) -> Result<R, Box<CallError>> {
        let refused = |refused| Err(self.refused(refused));
        // SAFETY: `run` ends it after the closure in which others are made.
        unsafe { self.entry.slot.enter_by_sequence_or_else(|running| self.run(running, use_it), refused) }
    }

    /// [`call`](Self::call) with a say in which version it is while two of them
    /// serve.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    #[inline]
    pub fn call_routed<R>(
        &self,
        route: Route<'_>,
        use_it: impl for<'call> FnOnce(I::Proxy<'call>) -> Result<R, Fault>,
    ) -> Result<R, Box<CallError>> {
        let refused = |refused| Err(self.refused(refused));
        // SAFETY: as in `call`.
        unsafe { self.entry.slot.enter_routed_or_else(route, |running| self.run(running, use_it), refused) }
    }

    #[inline(always)]
    fn run<R>(
        &self,
        running: Running<'_, Serving>,
        use_it: impl for<'call> FnOnce(I::Proxy<'call>) -> Result<R, Fault>,
    ) -> Result<R, Box<CallError>> {
        // SAFETY: entry and directory are of one host, where the index is `I`'s.
        let Some(vtable) = (unsafe { running.entered().payload().vtable::<I>(self.hot_index) }) else {
            return self.run_cold(running, use_it);
        };
        // SAFETY: just found there.
        let answer = use_it(unsafe { running.entered().payload().proxy::<I>(vtable, self.answer_bytes_max) });
        // The call ends on each way by itself: after one end for both, each call
        // would be asked which of them it was.
        match answer {
            Ok(result) => {
                drop(running);
                Ok(result)
            }
            Err(fault) => Err(Self::failed(running, fault)),
        }
    }

    #[cold]
    #[inline(never)]
    fn run_cold<R>(
        &self,
        running: Running<'_, Serving>,
        use_it: impl for<'call> FnOnce(I::Proxy<'call>) -> Result<R, Fault>,
    ) -> Result<R, Box<CallError>> {
        let serving = running.entered().payload();
        // SAFETY: as in `run`.
        let Some(vtable) = (unsafe { serving.vtable::<I>(self.index) }) else {
            running.entered().fail();
            return Err(self.not_offered(serving));
        };
        let _admitted = self.entry.admit(&self.directory.limits)?;
        // SAFETY: as in `run`.
        let answer = use_it(unsafe { serving.proxy::<I>(vtable, self.answer_bytes_max) });
        answer.map_err(|fault| Self::failed(running, fault))
    }

    #[cold]
    #[inline(never)]
    fn refused(&self, source: Refused) -> Box<CallError> {
        Box::new(self.directory.refused(&self.entry, source))
    }

    fn not_offered(&self, serving: &Serving) -> Box<CallError> {
        Box::new(CallError::UnknownInterface {
            plugin: self.entry.name.clone(),
            version: Box::new(serving.id().clone()),
            interface: named::<I>(),
        })
    }

    #[cold]
    #[inline(never)]
    fn failed(running: Running<'_, Serving>, fault: Fault) -> Box<CallError> {
        let entered = running.entered();
        entered.fail();
        let plugin = entered.payload().id().name.clone();
        let method = format!("{}.{}", I::ID, fault.method());
        Box::new(match fault.into_kind() {
            FaultKind::Panicked { message, .. } => CallError::Panicked { plugin, method, message },
            FaultKind::Refused { code, message, retryable, .. } => {
                CallError::Plugin { plugin, code, message, retryable }
            }
            FaultKind::TooLarge { bytes_max, .. } => {
                CallError::TooLarge { plugin, what: "the answer", bytes_max }
            }
            FaultKind::Missing { since, .. } => {
                let version = entered.payload().id().to_string();
                let message =
                    format!("version {version} lacks {method}, which is there since {} {since}", I::ID);
                CallError::UnknownMethod { plugin, message }
            }
            other => CallError::Plugin {
                plugin,
                code: "abi".to_owned(),
                message: other.to_string(),
                retryable: false,
            },
        })
    }
}

/// An interface as messages name it.
fn named<I: TypedInterface + ?Sized>() -> String {
    format!("{} {}", I::ID, I::VERSION)
}

/// The host was not told of the interface when it was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interface {interface} is not registered: start the host with `HostBuilder::interface`")]
pub struct NotRegistered {
    /// Id and version of the interface.
    pub interface: String,
}

impl Failure for NotRegistered {
    fn code(&self) -> Code {
        Code::HostOptions
    }
}
