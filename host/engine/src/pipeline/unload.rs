//! The end of a version: drain, stop, drop, release, detach, close, prove.
//!
//! long: every step of an unload stands here once, in their order.
//!
//! The instance is stopped and dropped by one thread, in that order and before
//! any thread detaches: a thread-local whose destructor ran cannot be used again.
//!
//! Each version that leaves has a thread of its own for it, which waits for as
//! long as it takes: a call that runs for minutes, or a hook that hangs, holds
//! up nothing else. What the thread is at, and what keeps it, can be seen at
//! any time.

use super::{
    poll::poll_until,
    start::{Left, NotStarted, Prepared},
    worker::Nudge,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{self, Drained, Holder, InFlight, Retired},
    event::{EventKind, EventLog},
    id::VersionId,
    load::{Closed, Hook, Loaded, Pin, Remains, Residue},
    service::Serving,
};
use crossbeam::channel::Receiver;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How patient an unload is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnloadOptions {
    /// For `stop` and `drop` each, before they are reported as hanging.
    pub(crate) hook_timeout: Duration,
    /// For threads of the host to pass by and detach, before they are given up.
    pub(crate) detach_timeout: Duration,
    /// For threads of the plugin to end, before the version is reported as
    /// resident.
    pub(crate) threads_timeout: Duration,
}

/// What an unload is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnloadStage {
    /// A hook has not returned that began before the version could be retired.
    Hanging,
    Draining,
    Stopping,
    Dropping,
    /// Its tables are told that it writes no more, which waits for who changes them.
    Releasing,
    Detaching,
    Closing,
    Unloaded,
}

impl UnloadStage {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            UnloadStage::Hanging => "hanging",
            UnloadStage::Draining => "draining",
            UnloadStage::Stopping => "stopping",
            UnloadStage::Dropping => "dropping",
            UnloadStage::Releasing => "releasing",
            UnloadStage::Detaching => "detaching",
            UnloadStage::Closing => "closing",
            UnloadStage::Unloaded => "unloaded",
        }
    }
}

/// What can be seen of an unload.
#[derive(Debug, Clone)]
pub(crate) struct UnloadStatus {
    pub(crate) stage: UnloadStage,
    pub(crate) since: Instant,
    /// Why the version is resident; empty while it is not.
    pub(crate) pins: Vec<String>,
    pub(crate) in_flight: InFlight,
    pub(crate) holders: Vec<Holder>,
}

/// A version on its way out.
pub(crate) struct Unloading {
    pub(crate) id: VersionId,
    /// Its name in dispatch; none of a candidate that was never a version.
    pub(crate) in_memory: Option<dispatch::VersionId>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    status: Mutex<UnloadStatus>,
    id: VersionId,
    options: UnloadOptions,
    events: Arc<EventLog>,
    nudge: Nudge,
    calls: Mutex<u64>,
}

impl Unloading {
    /// Begins to unload a version that serves no new calls. `hangs` is a hook
    /// of it that has not returned; the version cannot drain before it does.
    ///
    /// # Errors
    /// The system cannot start a thread; the version stays in memory.
    pub(crate) fn of_version(
        retired: Retired<Serving>,
        hangs: Option<Hook>,
        options: UnloadOptions,
        events: Arc<EventLog>,
        nudge: Nudge,
    ) -> io::Result<Unloading> {
        let id = retired.payload().id().clone();
        let in_memory = retired.id();
        let users = (retired.in_flight(), retired.holders());
        let begun = Unloading::begin(id, users, options, events, nudge, move |shared| {
            if let Some(hook) = hangs {
                shared.resident(&[Pin::HookRuns(hook.as_str())]);
            }
            shared.unload(retired);
        });
        begun.map(|unloading| Unloading { in_memory: Some(in_memory), ..unloading })
    }

    /// Begins to unload what is left of a candidate that could not be started.
    ///
    /// # Errors
    /// As for [`of_version`](Unloading::of_version).
    pub(crate) fn of_candidate(
        id: VersionId,
        left: Left,
        options: UnloadOptions,
        events: Arc<EventLog>,
        nudge: Nudge,
    ) -> io::Result<Unloading> {
        let users = (InFlight { stack: 0, leases: 0 }, Vec::new());
        Unloading::begin(id, users, options, events, nudge, move |shared| shared.close_left(left))
    }

    fn begin(
        id: VersionId,
        (in_flight, holders): (InFlight, Vec<Holder>),
        options: UnloadOptions,
        events: Arc<EventLog>,
        nudge: Nudge,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<Unloading> {
        let status = UnloadStatus {
            stage: UnloadStage::Draining,
            since: Instant::now(),
            pins: Vec::new(),
            in_flight,
            holders,
        };
        let shared = Arc::new(Shared {
            status: Mutex::new(status),
            id: id.clone(),
            options,
            events,
            nudge,
            calls: Mutex::new(0),
        });
        let thread = thread::Builder::new().name("replug-unload".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || body(&shared)
        })?;
        Ok(Unloading { id, in_memory: None, shared, thread: Some(thread) })
    }

    /// What it is at.
    pub(crate) fn status(&self) -> UnloadStatus {
        self.shared.lock().clone()
    }

    /// Whether the library is gone.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.lock().stage == UnloadStage::Unloaded
    }

    /// Reports code of the version that has not returned in time as what keeps
    /// it: a hook, or the destructor of a thread-local. Or the disk of its tables.
    pub(crate) fn look_for_hanging_code(&self) {
        let mut status = self.shared.lock();
        let UnloadOptions { hook_timeout, detach_timeout, .. } = self.shared.options;
        let (pin, timeout) = match status.stage {
            UnloadStage::Stopping => (Pin::HookRuns(Hook::Stop.as_str()), hook_timeout),
            UnloadStage::Dropping => (Pin::HookRuns(Hook::Drop.as_str()), hook_timeout),
            UnloadStage::Releasing => (Pin::Tables, hook_timeout),
            UnloadStage::Detaching => (Pin::Destructors, detach_timeout + RECHECK),
            _ => return,
        };
        let hanging_after = timeout.saturating_mul(2);
        if status.pins.is_empty() && status.since.elapsed() > hanging_after {
            status.pins = vec![pin.to_string()];
            let pins = status.pins.clone();
            drop(status);
            self.shared.event(EventKind::Resident { pins });
        }
    }

    /// Waits for the end, once it is done.
    pub(crate) fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, its panic was printed.
            let _ = thread.join();
        }
    }
}

/// How often a resident version is looked at again.
const RECHECK: Duration = Duration::from_millis(50);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, UnloadStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, kind: EventKind) {
        self.events.write(Some(self.id.name.to_string()), Some(self.id.to_string()), kind);
    }

    fn enter(&self, stage: UnloadStage) {
        let mut status = self.lock();
        status.stage = stage;
        status.since = Instant::now();
        status.pins.clear();
    }

    /// Waits for a hook to return that nobody waited for any longer, and unloads
    /// what it leaves.
    fn await_hook(&self, hook: Hook, late: &Receiver<Prepared>) {
        self.enter(UnloadStage::Hanging);
        self.resident(&[Pin::HookRuns(hook.as_str())]);
        match late.recv() {
            Ok(Ok(started)) => self.unload(started.version.retire()),
            Ok(Err(NotStarted { left: Some(left), .. })) => self.close_left(left),
            // It was not loaded after all.
            Ok(Err(_)) => self.enter(UnloadStage::Unloaded),
            // The host's own code panicked around the hook: the library stays
            // where it is, and is named by the pin.
            Err(_) => {}
        }
    }

    fn close_left(&self, left: Left) {
        match left {
            Left::Library(loaded) => self.close(*loaded, Instant::now()),
            Left::Closed(remains, pins) => {
                self.enter(UnloadStage::Closing);
                self.linger(remains, &pins, Instant::now());
            }
            Left::Hanging(hook, late) => self.await_hook(hook, &late),
        }
    }

    fn unload(&self, retired: Retired<Serving>) {
        let retired = self.drain(retired);
        let drained_at = Instant::now();
        self.end(&retired);
        self.enter(UnloadStage::Detaching);
        let serving = self.detach(self.leave(retired));
        self.close(serving.into_loaded(), drained_at);
    }

    /// Waits for the calls in flight, for ever if need be.
    fn drain(&self, retired: Retired<Serving>) -> Retired<Serving> {
        let begun = Instant::now();
        let in_flight = retired.in_flight();
        self.event(EventKind::Draining { in_flight: (in_flight.stack + in_flight.leases) as u64 });
        loop {
            if poll_until(RECHECK, || retired.is_drained()) {
                break;
            }
            let mut status = self.lock();
            status.in_flight = retired.in_flight();
            status.holders = retired.holders();
        }
        {
            let mut status = self.lock();
            status.in_flight = InFlight { stack: 0, leases: 0 };
            status.holders.clear();
            // A hook that hung has returned.
            status.pins.clear();
        }
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner) = retired.counters().calls;
        self.event(EventKind::Drained { micros: micros(begun.elapsed()) });
        retired
    }

    /// Stops and drops the instance, on this thread.
    fn end(&self, retired: &Retired<Serving>) {
        let lease = retired.lease(Holder::new("stop", monotonic_ns()));
        if let Err(error) = lease.enter(|entered| self.stop_and_drop(entered.payload())) {
            // No record is left for this thread: it detaches when the library
            // is closed, as the thread which does that.
            tracing::warn!(version = %self.id, %error, "the version is stopped unseen by dispatch");
            self.stop_and_drop(retired.payload());
        }
    }

    fn stop_and_drop(&self, serving: &Serving) {
        self.enter(UnloadStage::Stopping);
        let timeout_ns = u64::try_from(self.options.hook_timeout.as_nanos()).unwrap_or(u64::MAX);
        let stopped = serving.stop(monotonic_ns().saturating_add(timeout_ns));
        if let Err(error) = stopped {
            tracing::warn!(version = %self.id, %error, "the version did not stop cleanly");
        }
        self.enter(UnloadStage::Dropping);
        // SAFETY: retired and drained: no call, no lease but that of this
        // thread, and nobody to take another; hooks have come to their end.
        if let Err(error) = unsafe { serving.destroy() } {
            tracing::warn!(version = %self.id, %error, "the instance did not drop cleanly");
        }
        self.enter(UnloadStage::Releasing);
        serving.tables().leave();
    }

    /// From here on no call and no lease is possible.
    fn leave(&self, mut retired: Retired<Serving>) -> Drained<Serving> {
        loop {
            match retired.try_drained() {
                Ok(drained) => return drained,
                Err(back) => {
                    retired = back;
                    poll_until(RECHECK, || retired.is_drained());
                }
            }
        }
    }

    /// Waits for threads to pass by; gives up those that do not.
    fn detach(&self, mut drained: Drained<Serving>) -> Serving {
        let mut is_nudged = false;
        let all = poll_until(self.options.detach_timeout, || {
            let left = drained.detach_threads();
            // Once: each time takes a core from a caller, whom the rest waits for.
            is_nudged = is_nudged || left == 0 || self.nudge.send();
            left == 0
        });
        if !all {
            let abandoned = drained.abandon();
            tracing::debug!(version = %self.id, abandoned, "idle threads keep thread-locals of an unloaded version");
        }
        loop {
            match drained.finish() {
                Ok(finished) => return finished.payload,
                Err(back) => {
                    drained = back;
                    thread::sleep(RECHECK / 50);
                    drained.abandon();
                }
            }
        }
    }

    fn close(&self, mut loaded: Loaded, drained_at: Instant) {
        self.enter(UnloadStage::Closing);
        poll_until(self.options.threads_timeout, || loaded.threads().count() == 0 && loaded.door().shut());
        loop {
            // SAFETY: drained, detached and destroyed: no call, no lease, no
            // instance; threads of the plugin are looked for by `close`.
            match unsafe { loaded.close() } {
                Closed::Unmapped(residue) => return self.unloaded(residue, drained_at),
                Closed::Pinned { loaded: back, pins } => {
                    self.resident(&pins);
                    loaded = *back;
                    thread::sleep(RECHECK);
                }
                Closed::Lingering { remains, pins } => return self.linger(remains, &pins, drained_at),
            }
        }
    }

    /// It was closed; waits until it is gone.
    fn linger(&self, mut remains: Box<Remains>, pins: &[Pin], drained_at: Instant) {
        self.resident(pins);
        loop {
            thread::sleep(RECHECK);
            match remains.recheck() {
                Ok(residue) => return self.unloaded(residue, drained_at),
                Err((back, pins)) => {
                    self.resident(&pins);
                    remains = back;
                }
            }
        }
    }

    fn resident(&self, pins: &[Pin]) {
        let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
        let mut status = self.lock();
        if status.pins == pins {
            return;
        }
        status.pins.clone_from(&pins);
        drop(status);
        self.event(EventKind::Resident { pins });
    }

    fn unloaded(&self, residue: Residue, drained_at: Instant) {
        let calls = *self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        self.event(EventKind::Unloaded {
            micros: micros(drained_at.elapsed()),
            calls,
            leftover_bytes: residue.bytes_freed,
            companions: residue.companions.iter().map(|path| path.display().to_string()).collect(),
        });
        self.enter(UnloadStage::Unloaded);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
