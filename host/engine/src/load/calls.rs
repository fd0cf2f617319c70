//! The functions of a plugin, as the engine calls them between the opening of
//! its library and the end of it.
//!
//! Each stands here once, beside the promise that makes the call sound. None of
//! them decides when it is called, and none keeps what a plugin has lent.

use super::{
    answer::{Answer, AnswerLimits},
    hooks::{Hook, HookError, HookErrorKind, StepInfo},
    loaded::Loaded,
};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{ForeignWaker, HostContext, Instance, Pending, Request, Sink, Status};
use std::any::Any;

/// Bytes of what a plugin says about itself and what becomes of it: lists of steps
/// and methods.
const SELF_DESCRIPTION: AnswerLimits = AnswerLimits { body_bytes_max: 1024 * 1024 };

/// One state in two schemas.
pub(crate) struct ExportedDown {
    /// In that of the version that exported it.
    pub(crate) own: Vec<u8>,
    /// In the earlier one that was asked for.
    pub(crate) earlier: Vec<u8>,
}

/// Hooks.
impl Loaded {
    /// Builds an instance. `keep` is what `context` points into; it is freed
    /// after the library.
    ///
    /// # Errors
    /// The hook's; the library is still loaded then.
    ///
    /// # Safety
    /// `context` points into `keep`, or to what lives as long as the process,
    /// and its vtable is a `HostVtableRef`.
    pub unsafe fn prepare(
        &mut self,
        context: HostContext,
        keep: Box<dyn Any + Send + Sync>,
        config: &str,
    ) -> Result<Instance, HookError> {
        self.contexts.push(keep);
        let mut instance = Instance::NULL;
        // SAFETY: `context` is valid until the library is closed, since `keep`
        // is, as the caller promises; the out pointer is a local.
        self.run(Hook::Prepare, |sink| unsafe {
            self.handshake.instance.prepare()(context, RStr::from_str(config), &mut instance, sink)
        })?;
        Ok(instance)
    }

    /// Runs a hook that takes the instance only.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed;
    /// hooks of an instance run one at a time.
    pub unsafe fn hook(&self, hook: Hook, instance: Instance) -> Result<(), HookError> {
        let vtable = self.handshake.instance;
        let function = match hook {
            Hook::Activate => vtable.activate(),
            Hook::SelfTest => vtable.self_test(),
            Hook::Freeze => vtable.freeze(),
            Hook::Thaw => vtable.thaw(),
            Hook::Drop => vtable.destroy(),
            Hook::Prepare
            | Hook::Restore
            | Hook::Export
            | Hook::Migrate
            | Hook::Convert
            | Hook::Steps
            | Hook::Methods
            | Hook::Stop => {
                let reason = "the host called it in a way that it does not have".to_owned();
                return Err(HookError { hook, kind: HookErrorKind::Failed, reason });
            }
        };
        // SAFETY: the caller's promise.
        self.run(hook, |sink| unsafe { function(instance, sink) }).map(drop)
    }

    /// Ends what the instance runs; waits for its threads until the deadline.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// As [`hook`](Loaded::hook).
    pub unsafe fn stop(&self, instance: Instance, deadline_ns: u64) -> Result<(), HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Stop, |sink| unsafe { self.handshake.instance.stop()(instance, deadline_ns, sink) })
            .map(drop)
    }

    /// Hands state over to an instance that is not in use yet.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// As [`hook`](Loaded::hook), and nothing else uses the instance.
    pub unsafe fn restore(
        &self,
        instance: Instance,
        schema_version: u32,
        state: &[u8],
    ) -> Result<(), HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Restore, |sink| unsafe {
            self.handshake.instance.restore()(instance, schema_version, RSlice::from_slice(state), sink)
        })
        .map(drop)
    }

    /// The instance's state, in the memory of `buffer`.
    ///
    /// # Errors
    /// The hook's; more than `bytes_max` bytes are refused.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed.
    pub unsafe fn export(
        &self,
        instance: Instance,
        bytes_max: usize,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>, HookError> {
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: the caller's promise.
        let (status, answer) = Answer::collect_into(buffer, limits, |sink| unsafe {
            self.handshake.instance.export()(instance, sink)
        });
        match HookError::from_status(Hook::Export, limits, status, &answer) {
            Some(error) => Err(error),
            None => Ok(answer.body),
        }
    }

    /// The instance's state as by [`export`](Loaded::export), and the same in the
    /// earlier schema `to`; `None` when the plugin cannot do both at once.
    ///
    /// # Errors
    /// As [`export`](Loaded::export), for either.
    ///
    /// # Safety
    /// As [`export`](Loaded::export).
    pub(crate) unsafe fn export_down(
        &self,
        instance: Instance,
        to: u32,
        bytes_max: usize,
        buffer: Vec<u8>,
    ) -> Result<Option<ExportedDown>, HookError> {
        let Some(export_down) = self.handshake.instance.export_down() else { return Ok(None) };
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: the caller's promise.
        let (status, answer) =
            Answer::collect_into(buffer, limits, |sink| unsafe { export_down(instance, to, sink) });
        if status == Status::NO_STEP {
            return Ok(None);
        }
        match HookError::from_status(Hook::Export, limits, status, &answer) {
            Some(error) => Err(error),
            None => Ok(answer.image.map(|earlier| ExportedDown { own: answer.body, earlier })),
        }
    }

    /// Converts state; `None` when the plugin does not lead there. Before 1.1 of the
    /// interface it may be asked for one step only.
    ///
    /// # Errors
    /// The hook's.
    pub fn migrate(
        &self,
        from: u32,
        to: u32,
        state: &[u8],
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, HookError> {
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: needs no instance; bytes are borrowed for the call.
        let (status, answer) = Answer::collect(limits, |sink| unsafe {
            self.handshake.instance.migrate()(from, to, RSlice::from_slice(state), sink)
        });
        if status == Status::NO_STEP {
            return Ok(None);
        }
        match HookError::from_status(Hook::Migrate, limits, status, &answer) {
            Some(error) => Err(error),
            None => Ok(Some(answer.body)),
        }
    }

    /// Reads state as `restore` would, and forgets it. Nothing is read by a plugin
    /// that cannot tell beforehand, from before 1.1 of the interface.
    ///
    /// # Errors
    /// As that of `restore`.
    pub(crate) fn read(&self, schema: u32, state: &[u8]) -> Result<(), HookError> {
        if !self.restores_earlier_schemas() {
            return Ok(());
        }
        // SAFETY: as in `migrate`.
        let (status, answer) = Answer::collect(SELF_DESCRIPTION, |sink| unsafe {
            self.handshake.instance.migrate()(schema, schema, RSlice::from_slice(state), sink)
        });
        if status == Status::NO_STEP {
            return Ok(());
        }
        HookError::from_status(Hook::Restore, SELF_DESCRIPTION, status, &answer).map_or(Ok(()), Err)
    }

    /// The migration steps that this version offers.
    ///
    /// # Errors
    /// The hook's.
    pub fn steps(&self) -> Result<Vec<StepInfo>, HookError> {
        // SAFETY: needs no instance.
        let answer = self.run(Hook::Steps, |sink| unsafe { self.handshake.instance.steps()(sink) })?;
        serde_json::from_slice(&answer.body).map_err(|error| HookError {
            hook: Hook::Steps,
            kind: HookErrorKind::Lied,
            reason: error.to_string(),
        })
    }

    /// The list of methods as the plugin wrote it (JSON).
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed.
    pub unsafe fn methods(&self, instance: Instance) -> Result<Vec<u8>, HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Methods, |sink| unsafe { self.handshake.service.methods()(instance, sink) })
            .map(|answer| answer.body)
    }

    fn run(&self, hook: Hook, call: impl FnOnce(&Sink) -> Status) -> Result<Answer, HookError> {
        let (status, answer) = Answer::collect(SELF_DESCRIPTION, call);
        match HookError::from_status(hook, SELF_DESCRIPTION, status, &answer) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }
}

/// Calls of the service.
impl Loaded {
    /// Calls a method and waits.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and is not destroyed while
    /// the call runs.
    #[inline]
    pub unsafe fn call(&self, instance: Instance, request: &Request<'_>, sink: &Sink) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.call()(instance, request, sink) }
    }

    /// Starts a method; see the ABI for the statuses.
    ///
    /// # Safety
    /// As [`call`](Loaded::call), until the pending call is cancelled.
    pub unsafe fn start(
        &self,
        instance: Instance,
        request: &Request<'_>,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.start()(instance, request, out, sink) }
    }

    /// Polls a started call.
    ///
    /// # Safety
    /// `pending` came from [`start`](Loaded::start) and was not cancelled.
    pub unsafe fn poll(&self, pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.poll()(pending, waker, sink) }
    }

    /// Ends a started call.
    ///
    /// # Safety
    /// `pending` came from [`start`](Loaded::start) and is not used afterwards.
    pub unsafe fn cancel(&self, pending: Pending) {
        // SAFETY: the caller's promise. A panic while cancelling was caught on
        // the other side; the call is over either way.
        let _ = unsafe { self.handshake.service.cancel()(pending) };
    }
}
