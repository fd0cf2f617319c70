//! From a prepared version to the one that serves.
//!
//! Stateless: activate, self-test, store the pointer; nobody waits. Snapshot:
//! behind a closed gate, after the last call on the old version has returned,
//! its state is exported, converted and restored, and only then is the pointer
//! stored. Until then every failure opens the gate on the old version, whose
//! instance was not touched but for `freeze`, which `thaw` undoes. Storing the
//! pointer is the point of no return.

use super::{
    error::DeployError,
    state::{self, Payload, StatePolicy, not_entered},
    worker::{Progress, Worker},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Closed, Holder, Lease, Retired, Sealed, Version},
    load::{Hook, HookError},
    service::{Entry, Serving},
    state::{chain::Plan, envelope::Envelope, store::SnapshotStore},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// A version serves.
pub(crate) struct Taken {
    /// The version before, to be unloaded.
    pub(crate) old: Option<Retired<Serving>>,
    /// Calls in flight on it when it was replaced, or when the gate closed.
    pub(crate) in_flight: usize,
    /// How long the gate was closed.
    pub(crate) pause: Duration,
    /// How long storing the pointer took.
    pub(crate) publish: Duration,
    /// How long the barrier took that makes calls in flight visible: after the
    /// pointer was stored, or when the gate closed.
    pub(crate) barrier: Duration,
    /// The state that went over; `None` without state.
    pub(crate) state: Option<TakenState>,
}

/// State that went from one version to the next, or from the disk.
pub(crate) struct TakenState {
    /// Schema version before and after.
    pub(crate) schemas: (u32, u32),
    pub(crate) bytes: u64,
    pub(crate) loss: String,
    /// What the old version exported; `None` at a first start.
    pub(crate) exported: Option<Envelope>,
}

/// A version was refused. It has to be unloaded.
pub(crate) struct Refused {
    pub(crate) error: DeployError,
    pub(crate) version: Version<Serving>,
}

/// What a take-over may use.
pub(crate) struct Means<'a> {
    pub(crate) worker: &'a mut Worker,
    pub(crate) store: &'a SnapshotStore,
    pub(crate) policy: StatePolicy,
    pub(crate) quiesce_timeout: Duration,
}

/// Makes `version` the one that serves.
pub(crate) fn take_over(
    entry: &Entry,
    version: Version<Serving>,
    means: &mut Means<'_>,
) -> Result<Taken, Refused> {
    let holder = Holder::new("deployment", monotonic_ns());
    let old = entry.slot.lease(holder).ok();
    let result = match &old {
        Some(old) => has_state(old, &version).and_then(|stateful| {
            if stateful { Ok(true) } else { first_start_or_stateless(&version, means).map(|()| false) }
        }),
        None => first_start_or_stateless(&version, means).map(|()| false),
    };
    match (result, old) {
        (Err(error), _) => Err(Refused { error, version }),
        (Ok(true), Some(old)) => hand_over(entry, version, old, means),
        (Ok(_), _) => publish(entry, version),
    }
}

/// Whether state goes from one version to the other.
fn has_state(old: &Serving, new: &Version<Serving>) -> Result<bool, DeployError> {
    let (old, new) = (old.manifest().state, new.payload().manifest().state);
    match (old.snapshot, new.snapshot) {
        (true, false) => Err(DeployError::Model { from: "snapshot", to: "stateless" }),
        (true, true) => Ok(true),
        (false, _) => Ok(false),
    }
}

/// All that comes before the pointer where no state comes from a serving
/// version: state from the disk, activation, self-test.
fn first_start_or_stateless(version: &Version<Serving>, means: &mut Means<'_>) -> Result<(), DeployError> {
    let restored = saved_state(version, means)?;
    let lease = version.lease(Holder::new("deployment", monotonic_ns()));
    let progress = Progress::at(Hook::Restore);
    let inside = progress.clone();
    means.worker.run(&progress, move || {
        enter(&lease, Hook::Activate, |new| {
            if let Some(Payload { schema, bytes, .. }) = &restored {
                new.restore(*schema, bytes)?;
            }
            activate(new, &inside).map_err(DeployError::from)
        })
    })?
}

/// The newest saved state, converted for `version`.
fn saved_state(version: &Version<Serving>, means: &mut Means<'_>) -> Result<Option<Payload>, DeployError> {
    let serving = version.payload();
    if !serving.manifest().state.snapshot {
        return Ok(None);
    }
    let name = serving.id().name.as_str();
    let lookup = means.store.latest(name).map_err(DeployError::Restore)?;
    for problem in &lookup.problems {
        tracing::warn!(plugin = name, error = %problem, "a damaged snapshot was passed over");
    }
    let Some(found) = lookup.found else {
        return Ok(None);
    };
    let from = found.envelope.schema_version;
    let to = serving.manifest().schema_version;
    let steps = serving.loaded().steps()?;
    let (plan, older) = state::plan(name, from, serving, &steps, means.policy, means.store)?;
    if older.is_some() {
        return Ok(older);
    }
    let lease = version.lease(Holder::new("deployment", monotonic_ns()));
    let (bytes, bytes_max) = (found.envelope.payload, means.policy.bytes_max);
    means.worker.run(&Progress::at(Hook::Migrate), move || {
        enter(&lease, Hook::Migrate, |new| state::convert(new, &plan, from, to, bytes, bytes_max))
    })?
}

fn publish(entry: &Entry, version: Version<Serving>) -> Result<Taken, Refused> {
    let begun = Instant::now();
    match entry.slot.publish(version) {
        Ok(old) => {
            let publish = begun.elapsed();
            let in_flight = old.as_ref().map_or(0, |old| {
                old.settle();
                old.in_flight().stack
            });
            let barrier = begun.elapsed() - publish;
            Ok(Taken { old, in_flight, pause: Duration::ZERO, publish, barrier, state: None })
        }
        Err(busy) => {
            let error = DeployError::Gate(crate::dispatch::GateRefused::Busy);
            Err(Refused { error, version: busy.0 })
        }
    }
}

/// The hand-over of a snapshot, with callers waiting at the gate.
fn hand_over(
    entry: &Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    means: &mut Means<'_>,
) -> Result<Taken, Refused> {
    // Everything that can be known, fail or take time before the gate closes
    // does so here, beside calls.
    let transfer = match plan_transfer(old, &version, means) {
        Ok(transfer) => transfer,
        Err(error) => return Err(Refused { error, version }),
    };
    means.worker.stand_by();
    let begun = Instant::now();
    let closed = match entry.slot.close() {
        Ok(closed) => closed,
        Err(error) => return Err(Refused { error: error.into(), version }),
    };
    let (barrier, in_flight) = (begun.elapsed(), closed.in_flight().stack);
    let sealed = match seal(closed, means.quiesce_timeout) {
        Ok(sealed) => sealed,
        Err(error) => return Err(Refused { error, version }),
    };
    match transfer.run(&sealed, &version, means) {
        Ok(state) => {
            let storing = Instant::now();
            let (mut publish, mut pause) = (Duration::ZERO, Duration::ZERO);
            let old = sealed.open_then(version, || (publish, pause) = (storing.elapsed(), begun.elapsed()));
            Ok(Taken { old: Some(old), in_flight, pause, publish, barrier, state: Some(state) })
        }
        Err(error) => {
            sealed.reopen();
            Err(Refused { error, version })
        }
    }
}

/// Waits until nothing runs behind the closed gate, and lets nothing in.
fn seal(closed: Closed<'_, Serving>, quiesce_timeout: Duration) -> Result<Sealed<'_, Serving>, DeployError> {
    let sealed = wait_closed(closed, quiesce_timeout)?.seal();
    // A call of a chain in flight may have slipped in before the seal.
    if poll_until(quiesce_timeout, || sealed.is_drained()) {
        return Ok(sealed);
    }
    let error = DeployError::Quiesce {
        calls: sealed.in_flight().stack,
        holders: sealed.holders(),
        waited: quiesce_timeout,
    };
    sealed.reopen();
    Err(error)
}

fn wait_closed(closed: Closed<'_, Serving>, timeout: Duration) -> Result<Closed<'_, Serving>, DeployError> {
    if poll_until(timeout, || closed.is_drained()) {
        return Ok(closed);
    }
    let error =
        DeployError::Quiesce { calls: closed.in_flight().stack, holders: closed.holders(), waited: timeout };
    closed.reopen();
    Err(error)
}

/// How long a check is repeated without sleeping: what is awaited is most often
/// a call that returns within microseconds, and a sleep takes many.
const POLL_AWAKE: Duration = Duration::from_micros(100);
/// The first pause between two looks after that, and the longest: a wake-up
/// would put a check on every call.
const POLL_FIRST: Duration = Duration::from_micros(20);
const POLL_LONGEST: Duration = Duration::from_millis(1);

/// Polls until `done` or the time is over; whether it is done.
pub(super) fn poll_until(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut pause = POLL_FIRST;
    loop {
        if done() {
            return true;
        }
        let waited = begun.elapsed();
        if waited >= timeout {
            return false;
        }
        if waited < POLL_AWAKE {
            // What is awaited may need this core.
            thread::yield_now();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(POLL_LONGEST);
        }
    }
}

/// What will be done to state once the gate is closed.
struct Transfer {
    from: u32,
    to: u32,
    plan: Plan,
    older: Option<Payload>,
    /// Whether the old version converts: on the way down.
    old_converts: bool,
    bytes_max: usize,
}

fn plan_transfer(
    old: Lease<Serving>,
    new: &Version<Serving>,
    means: &mut Means<'_>,
) -> Result<Transfer, DeployError> {
    let (from, to) = (old.manifest().schema_version, new.payload().manifest().schema_version);
    let old_converts = from > to;
    let steps = if old_converts { old.loaded().steps()? } else { new.payload().loaded().steps()? };
    let name = new.payload().id().name.as_str();
    let (plan, older) = state::plan(name, from, new.payload(), &steps, means.policy, means.store)?;
    // A snapshot beside calls: it proves that the disk takes the state, and is
    // what a rollback falls back on.
    let envelope = state::snapshot_of(old, means.policy.bytes_max, means.worker)?;
    state::save(means.store, &envelope).map_err(DeployError::Save)?;
    Ok(Transfer { from, to, plan, older, old_converts, bytes_max: means.policy.bytes_max })
}

impl Transfer {
    /// Freeze, export, convert, restore, activate, self-test: one job, so that
    /// callers at the gate wait for one change of threads only.
    fn run(
        self,
        sealed: &Sealed<'_, Serving>,
        version: &Version<Serving>,
        means: &mut Means<'_>,
    ) -> Result<TakenState, DeployError> {
        let holder = Holder::new("hand-over", monotonic_ns());
        let (old, new) = (sealed.lease(holder), version.lease(holder));
        let progress = Progress::at(Hook::Freeze);
        let inside = progress.clone();
        means.worker.run(&progress, move || {
            let result = enter(&old, Hook::Export, |old_serving| {
                inside.enter(Hook::Freeze);
                old_serving.hook(Hook::Freeze)?;
                self.transfer(old_serving, &new, &inside)
            });
            if result.is_err() {
                inside.enter(Hook::Thaw);
                let thawed = enter(&old, Hook::Thaw, |old| Ok(old.hook(Hook::Thaw)?));
                if let Err(error) = thawed {
                    tracing::error!(plugin = %old.id().name, %error, "the old version did not thaw");
                }
            }
            result
        })?
    }

    fn transfer(
        self,
        old: &Serving,
        new: &Lease<Serving>,
        progress: &Progress,
    ) -> Result<TakenState, DeployError> {
        progress.enter(Hook::Export);
        let exported = state::envelope(old, old.export(self.bytes_max)?);
        let bytes = exported.payload.clone();
        let convert = |converter: &Serving| {
            state::convert(converter, &self.plan, self.from, self.to, bytes, self.bytes_max)
        };
        progress.enter(Hook::Migrate);
        let converted = if self.old_converts { convert(old)? } else { enter(new, Hook::Migrate, convert)? };
        let payload = converted.or(self.older);
        let taken = TakenState {
            schemas: (self.from, self.to),
            bytes: payload.as_ref().map_or(0, |payload| payload.bytes.len() as u64),
            loss: payload.as_ref().map_or_else(|| "all state".to_owned(), |payload| payload.loss.clone()),
            exported: Some(exported),
        };
        enter(new, Hook::Restore, |new| {
            progress.enter(Hook::Restore);
            if let Some(Payload { schema, bytes, .. }) = &payload {
                new.restore(*schema, bytes)?;
            }
            Ok(activate(new, progress)?)
        })?;
        Ok(taken)
    }
}

fn activate(new: &Serving, progress: &Progress) -> Result<(), HookError> {
    progress.enter(Hook::Activate);
    new.hook(Hook::Activate)?;
    progress.enter(Hook::SelfTest);
    new.hook(Hook::SelfTest)
}

/// Runs `body` inside the leased version, so that this thread is known to have
/// run its code.
fn enter<R>(
    lease: &Lease<Serving>,
    hook: Hook,
    body: impl FnOnce(&Serving) -> Result<R, DeployError>,
) -> Result<R, DeployError> {
    lease
        .enter(|entered| body(entered.payload()))
        .unwrap_or_else(|refused| Err(not_entered(hook, refused).into()))
}
