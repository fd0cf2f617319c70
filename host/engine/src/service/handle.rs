//! The embedder's handle to a plugin.

use super::{
    directory::{Directory, Entry},
    error::{CallError, outcome},
    future::CallFuture,
    message::{CallOptions, Reply},
    serving::Serving,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Counters, Entered, Holder, Lease, Refused, Route},
    id::{PluginName, VersionId},
    load::{Answer, AnswerLimits},
};
use replug_abi::Request;
use std::sync::Arc;

/// A plugin of a host, by name, whichever version serves.
///
/// Cheap to clone, usable from any thread, with or without an async runtime.
/// It stays valid while versions come and go, and when there is none: calls
/// then fail with `call.not_active`.
#[derive(Clone)]
pub struct Plugin {
    entry: Arc<Entry>,
    directory: Arc<Directory>,
}

/// Calls a method of a version that was not published: nothing is counted. A deadline of 0
/// is none.
pub(crate) fn call_unpublished(
    version: &Serving,
    limits: AnswerLimits,
    (method, body): (&str, &[u8]),
    deadline_ns: u64,
) -> Result<Reply, CallError> {
    let request = Request { deadline_ns, ..Request::new(method, body) };
    let (status, answer) = Answer::collect(limits, |sink| version.call(&request, sink));
    outcome(&version.id().name, method, limits.body_bytes_max, status, answer)
}

impl Plugin {
    pub(crate) fn new(entry: Arc<Entry>, directory: Arc<Directory>) -> Self {
        Plugin { entry, directory }
    }

    /// The plugin's name.
    pub fn name(&self) -> &PluginName {
        &self.entry.name
    }

    /// The version that serves now; during a hand-over, the one before; while
    /// two share the calls, the baseline. Counts as no call, and waits for
    /// nothing.
    ///
    /// # Errors
    /// `call.not_active` without one.
    pub fn version(&self) -> Result<VersionId, CallError> {
        let seen = self.entry.slot.look(Holder::new("version", monotonic_ns()));
        seen.map(|serving| serving.id().clone()).ok_or_else(|| self.refused(Refused::NotActive))
    }

    /// Calls a method and waits for its answer on this thread.
    ///
    /// The deadline of 30 s is told to the plugin, which ends async methods at
    /// it. A sync method cannot be interrupted: the call lasts for as long as
    /// it does. While a hand-over goes on, the call waits for it, up to the
    /// host's `gate_timeout` and whatever its own timeout.
    ///
    /// # Errors
    /// [`CallError`]; where the code is `gate.timeout` or `call.not_active` the
    /// plugin has seen nothing of the call.
    pub fn call(&self, method: &str, body: &[u8]) -> Result<Reply, CallError> {
        self.call_with(method, body, &CallOptions::default())
    }

    /// [`call`](Plugin::call) with options.
    ///
    /// # Errors
    /// As for [`call`](Plugin::call).
    pub fn call_with(&self, method: &str, body: &[u8], options: &CallOptions) -> Result<Reply, CallError> {
        self.entry.take_in(&self.directory.limits, method, body)?;
        let _admitted = self.entry.admit(&self.directory.limits)?;
        let request = options.request(method, body);
        let limits = self.directory.answer_limits();
        let route = self.entry.route(&options.caller, &options.sticky_key);
        self.enter_routed(route, |entered| {
            let (status, answer) = Answer::collect(limits, |sink| entered.payload().call(&request, sink));
            if !status.is_ok() {
                entered.fail();
            }
            self.entry.note_deadline(request.deadline_ns, status);
            outcome(&self.entry.name, method, limits.body_bytes_max, status, answer)
        })?
    }

    /// Calls a method without holding a thread. Needs no particular runtime.
    /// Dropping the future cancels the call; an unanswered call holds its
    /// version.
    pub fn call_async(&self, method: &str, body: &[u8], options: CallOptions) -> CallFuture {
        CallFuture::new(Arc::clone(&self.entry), Arc::clone(&self.directory), method, body, options)
    }

    /// Runs `use_it` with the version that serves, on this thread: the form
    /// that costs nanoseconds. Nothing of the version can leave the closure.
    ///
    /// # Errors
    /// [`CallError::Refused`]; the closure then was not run.
    #[inline]
    pub fn enter<R>(&self, use_it: impl FnOnce(Entered<'_, Serving>) -> R) -> Result<R, CallError> {
        self.entry.slot.enter(use_it).map_err(|source| self.refused(source))
    }

    /// [`enter`](Plugin::enter) with a say in which version it is while two of
    /// them serve.
    ///
    /// # Errors
    /// As for [`enter`](Plugin::enter).
    #[inline]
    pub fn enter_routed<R>(
        &self,
        route: Route<'_>,
        use_it: impl FnOnce(Entered<'_, Serving>) -> R,
    ) -> Result<R, CallError> {
        self.entry.slot.enter_routed(route, use_it).map_err(|source| self.refused(source))
    }

    /// Keeps the version that serves now, for as long as the lease lives: for
    /// work that crosses threads or awaits. `label` names the holder in status.
    ///
    /// Keep it short where the plugin has state: a version is not drained while
    /// it is leased, so each hand-over fails with `gate.quiesce_timeout`.
    ///
    /// # Errors
    /// [`CallError::Refused`].
    pub fn lease(&self, label: &'static str) -> Result<Lease<Serving>, CallError> {
        let holder = Holder::new(label, monotonic_ns());
        self.entry.slot.lease(holder).map_err(|source| self.refused(source))
    }

    /// The methods of the version that serves, as it describes them: a JSON
    /// array of `{"name", "kind", "description"}`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn methods(&self) -> Result<String, CallError> {
        let listed = self.enter(|entered| entered.payload().methods())?;
        let failed = |message: String| CallError::Plugin {
            plugin: self.entry.name.clone(),
            code: "methods".to_owned(),
            message,
            retryable: false,
        };
        String::from_utf8(listed.map_err(|error| failed(error.to_string()))?)
            .map_err(|error| failed(error.to_string()))
    }

    /// Calls and failed calls of the version that serves now.
    pub fn counters(&self) -> Counters {
        self.entry.slot.counters()
    }

    /// What handles of its interfaces are made of.
    pub(super) fn parts(&self) -> (&Arc<Entry>, &Arc<Directory>) {
        (&self.entry, &self.directory)
    }

    #[cold]
    fn refused(&self, source: Refused) -> CallError {
        self.directory.refused(&self.entry, source)
    }
}
