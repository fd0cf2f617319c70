//! The hand-over of a snapshot, with callers waiting at the gate.
//!
//! long: the gate is closed, waited behind and opened in one place, for both that pass it.
//!
//! Behind the closed gate, after the last call on the old version has returned,
//! its state is exported, converted and restored, and only then is the pointer
//! stored. Until then every failure opens the gate on the old version, whose
//! instance was not touched but for `freeze`, which `thaw` undoes. All of it
//! has one budget, below the time that callers wait before they are refused: a
//! hand-over that fails is a pause to them and nothing else.

use super::{
    error::DeployError,
    poll::poll_until,
    progress::{Party, Progress},
    saved::{Saved, from_disk_as_wanted, restore_and_activate},
    state::{self, Payload, StatePolicy},
    taken::{Before, DEPLOYMENT, HAND_OVER, Means, Refused, Taken, TakenState, activate, enter},
    worker::Overdue,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Closed, GateRefused, Holder, Lease, Sealed, Version},
    id::VersionId,
    load::Hook,
    service::{Entry, Serving},
    state::{chain::Plan, envelope::Envelope},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a sealed gate is waited at for calls that slipped in. What they
/// call themselves waits at it, so it must be opened to them again soon.
const SEALED: Duration = Duration::from_millis(1);

/// Commits the tables of a version that is about to serve, where that is due.
pub(super) type Commit<'a> = dyn FnMut(&Serving) -> Result<(), DeployError> + 'a;

pub(super) fn hand_over<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    commit: &mut Commit<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    // Everything that can be known, fail or take time before the gate closes
    // does so here, beside calls.
    if let Err(error) = is_worth_closing(&old, means.quiesce_timeout) {
        return Err(Refused::new(version, error));
    }
    // What is left is for waking those who wait.
    let budget = means.gate_timeout / 10 * 9;
    let transfer = match Transfer::plan(entry, old, &version, budget, means) {
        Ok(transfer) => transfer,
        Err(Failed { error, hangs, .. }) => return Err(Refused { error, version, hangs }),
    };
    means.worker.stand_by();
    let begun = Instant::now();
    let closed = match entry.slot.close() {
        Ok(closed) => closed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let (barrier, in_flight) = (begun.elapsed(), closed.in_flight().stack);
    let sealed = match quiesce(closed, means.quiesce_timeout.min(budget)) {
        Ok(sealed) => sealed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let progress = Progress::at(Party::Before, Hook::Freeze).within(begun, budget);
    let handed = transfer.run(&sealed, &version, &progress, means).and_then(|state| {
        commit(version.payload())?;
        Ok(state)
    });
    match handed {
        Ok(state) => Ok(Behind { begun, barrier, in_flight }.open(entry, sealed, version, Some(state))),
        Err(failed) => {
            let old = sealed.lease(Holder::new(HAND_OVER, monotonic_ns()));
            sealed.reopen();
            Err(failed.refuse(version, old, means))
        }
    }
}

/// Makes `version` the one that serves when the last call on the version before
/// has returned, and hands nothing over: rows of tables stay where they are, but
/// one of the two could not read what the other writes. Its tables are committed
/// with it. State that it is to begin with was `saved`.
pub(super) fn pass_gate<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    saved: Option<Saved>,
    commit: &mut Commit<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    if let Err(error) = is_worth_closing(&old, means.quiesce_timeout) {
        return Err(Refused::new(version, error));
    }
    drop(old);
    let budget = means.gate_timeout / 10 * 9;
    means.worker.stand_by();
    let begun = Instant::now();
    let closed = match entry.slot.close() {
        Ok(closed) => closed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let (barrier, in_flight) = (begun.elapsed(), closed.in_flight().stack);
    let sealed = match quiesce(closed, means.quiesce_timeout.min(budget)) {
        Ok(sealed) => sealed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let state = saved.as_ref().map(Saved::as_taken);
    let progress = Progress::at(Party::Candidate, Hook::Restore).within(begun, budget);
    let (lease, inside) = (version.lease(Holder::new(HAND_OVER, monotonic_ns())), progress.clone());
    let activated = means.worker.run(&progress, move || {
        enter(&lease, Hook::Activate, |new| restore_and_activate(new, saved, &inside))
    });
    match activated {
        Ok(Ok(())) => match commit(version.payload()) {
            Ok(()) => Ok(Behind { begun, barrier, in_flight }.open(entry, sealed, version, state)),
            Err(error) => {
                sealed.reopen();
                Err(Refused::new(version, error))
            }
        },
        Ok(Err(error)) => {
            sealed.reopen();
            Err(Refused::new(version, error))
        }
        Err(overdue) => {
            sealed.reopen();
            Err(Refused::overdue(version, overdue))
        }
    }
}

/// How it came that nothing runs behind the gate.
struct Behind {
    begun: Instant,
    barrier: Duration,
    in_flight: usize,
}

impl Behind {
    /// Stores the pointer and opens the gate.
    fn open<'a>(
        self,
        entry: &'a Entry,
        sealed: Sealed<'_, Serving>,
        version: Version<Serving>,
        state: Option<TakenState>,
    ) -> Taken<'a> {
        let Behind { begun, barrier, in_flight } = self;
        let change = entry.change();
        let storing = Instant::now();
        let (mut publish, mut pause) = (Duration::ZERO, Duration::ZERO);
        let old = sealed.open_then(version, || (publish, pause) = (storing.elapsed(), begun.elapsed()));
        // Those who waited go first, also on this core.
        thread::yield_now();
        Taken { pause, barrier, in_flight, state, ..Taken::now(change, Some(old), publish) }
    }
}

/// Whether calls can be expected to end in time: what is held for longer than
/// that already, or by a hook of an earlier hand-over that has not returned,
/// would only make callers wait for nothing.
fn is_worth_closing(old: &Lease<Serving>, quiesce_timeout: Duration) -> Result<(), DeployError> {
    let now = monotonic_ns();
    let is_long = |holder: &Holder| {
        holder.label == HAND_OVER || u128::from(now.saturating_sub(holder.since)) > quiesce_timeout.as_nanos()
    };
    let others = old.holders().into_iter().filter(|holder| holder.label != DEPLOYMENT);
    let holders: Vec<Holder> = others.filter(is_long).collect();
    if holders.is_empty() {
        return Ok(());
    }
    Err(DeployError::Quiesce { calls: 0, holders, waited: quiesce_timeout })
}

/// Waits until nothing runs behind the gate, and lets nothing in.
fn quiesce(mut closed: Closed<'_, Serving>, timeout: Duration) -> Result<Sealed<'_, Serving>, DeployError> {
    let begun = Instant::now();
    while poll_until(timeout.saturating_sub(begun.elapsed()), || closed.is_drained()) {
        let sealed = closed.seal();
        // A call of a chain in flight may have slipped in before the seal.
        if poll_until(SEALED, || sealed.is_drained()) {
            return Ok(sealed);
        }
        closed = sealed.unseal();
        if begun.elapsed() >= timeout {
            break;
        }
    }
    let (calls, holders) = (closed.in_flight().stack, closed.holders());
    closed.reopen();
    Err(DeployError::Quiesce { calls, holders, waited: timeout })
}

/// What will be done to state once the gate is closed.
struct Transfer {
    from: u32,
    to: u32,
    plan: Plan,
    older: Option<Payload>,
    /// The snapshot that takes the place of what the old version has.
    wanted: Option<Saved>,
    /// The snapshot of the old version that was taken beside calls.
    saved: u64,
    /// Whether the old version converts: on the way down.
    old_converts: bool,
    bytes_max: usize,
}

/// What the old version gave.
struct Given {
    exported: Envelope,
    /// Converted already, if the old version does that.
    converted: Option<Option<Payload>>,
}

impl Transfer {
    fn plan(
        entry: &Entry,
        old: Lease<Serving>,
        new: &Version<Serving>,
        budget: Duration,
        means: &mut Means<'_>,
    ) -> Result<Transfer, Failed> {
        let (from, to) = (old.manifest().schema_version, new.payload().manifest().schema_version);
        let wanted = match means.wanted.take() {
            Some(found) => from_disk_as_wanted(new, found, means)?,
            None => None,
        };
        let old_converts = wanted.is_none() && from > to;
        let steps = if old_converts { old.steps() } else { new.payload().steps() };
        let name = new.payload().id().name.as_str();
        let (plan, older) = match &wanted {
            // What the old version has is exported for the way back, and goes nowhere.
            Some(_) => (Plan::SnapshotBefore { schema_version: to }, None),
            None => state::plan(name, from, new.payload(), steps, means.policy, means.store)?,
        };
        let StatePolicy { bytes_max, .. } = means.policy;
        // A snapshot beside calls: it proves that the disk takes the state, and
        // is what a rollback falls back on.
        let before = old.id().clone();
        let begun = Instant::now();
        let envelope = state::snapshot_of(old, bytes_max, means.worker)
            .map_err(|error| error_of(before, error.into()))?;
        let export = begun.elapsed();
        let saved = state::save_changed(means.store, &envelope).map_err(DeployError::Save)?;
        let saved = saved.snapshot.sequence();
        let transfer = Transfer { from, to, plan, older, wanted, saved, old_converts, bytes_max };
        let holder = Holder::new(HAND_OVER, monotonic_ns());
        let (party, converter) = if old_converts {
            (Party::Before, entry.slot.look(holder).ok_or(GateRefused::NotActive)?)
        } else {
            (Party::Candidate, new.lease(holder))
        };
        let begun = Instant::now();
        transfer.try_steps(party, converter, envelope, means)?;
        let migrate = begun.elapsed();
        // The same again with callers waiting would be given up half-way, and
        // every retry would make them wait once more.
        if export + migrate > budget {
            let gate_timeout = means.gate_timeout;
            return Err(DeployError::OverBudget { export, migrate, budget, gate_timeout }.into());
        }
        Ok(transfer)
    }

    /// Converts the snapshot and drops the outcome. Steps are functions of
    /// bytes: whether they work is found out beside calls, and what they touch
    /// is in memory when callers wait for them.
    fn try_steps(
        &self,
        party: Party,
        converter: Lease<Serving>,
        snapshot: Envelope,
        means: &mut Means<'_>,
    ) -> Result<(), Failed> {
        let (plan, from, to, bytes_max) = (self.plan.clone(), self.from, self.to, self.bytes_max);
        let id = converter.id().clone();
        let tried = means.worker.run(&Progress::at(party, Hook::Migrate), move || {
            enter(&converter, Hook::Migrate, |converter| {
                state::convert(converter, &plan, from, to, snapshot.payload, bytes_max).map(drop)
            })
        });
        let failed = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failed { party, hangs: None, error: Box::new(error) },
            Err(overdue) => Failed::overdue(party, overdue),
        };
        Err(match party {
            Party::Candidate => failed,
            Party::Before => Failed { hangs: None, error: Box::new(error_of(id, *failed.error)), ..failed },
        })
    }

    /// Freeze, export, convert, restore, activate, self-test: one job, so that
    /// callers at the gate wait for one change of threads only.
    fn run(
        self,
        sealed: &Sealed<'_, Serving>,
        version: &Version<Serving>,
        progress: &Progress,
        means: &mut Means<'_>,
    ) -> Result<TakenState, Failed> {
        let holder = Holder::new(HAND_OVER, monotonic_ns());
        let (old, new) = (sealed.lease(holder), version.lease(holder));
        let inside = progress.clone();
        let done = means.worker.run(progress, move || {
            let frozen = Frozen(&old);
            let given = enter(&old, Hook::Export, |old| {
                let given = self.give(old, &inside)?;
                // Given up in its last hook: then it is thawed here.
                inside.enter(Party::Candidate, Hook::Migrate)?;
                frozen.leave();
                Ok(given)
            });
            let given = given.map_err(|error| Failed {
                party: Party::Before,
                hangs: None,
                error: Box::new(error),
            })?;
            // A hook of the new version that hangs must not hold the old one.
            drop(old);
            enter(&new, Hook::Restore, |new| self.take(new, given, &inside)).map_err(|error| Failed {
                party: Party::Candidate,
                hangs: None,
                error: Box::new(error),
            })
        });
        done.unwrap_or_else(|overdue| Err(Failed::overdue(progress.party(), overdue)))
    }

    fn give(&self, old: &Serving, progress: &Progress) -> Result<Given, DeployError> {
        old.hook(Hook::Freeze)?;
        progress.enter(Party::Before, Hook::Export)?;
        let exported = state::envelope(old, old.export(self.bytes_max)?);
        let converted = if self.old_converts {
            progress.enter(Party::Before, Hook::Migrate)?;
            Some(self.convert(old, &exported)?)
        } else {
            None
        };
        Ok(Given { exported, converted })
    }

    fn take(mut self, new: &Serving, given: Given, progress: &Progress) -> Result<TakenState, DeployError> {
        let Given { exported, converted } = given;
        let is_wanted = self.wanted.is_some();
        let (from, payload) = match (self.wanted.take(), converted) {
            (Some(wanted), _) => (wanted.from, Some(wanted.payload)),
            (None, Some(converted)) => (self.from, converted.or(self.older)),
            (None, None) => (self.from, self.convert(new, &exported)?.or(self.older)),
        };
        progress.enter(Party::Candidate, Hook::Restore)?;
        if let Some(Payload { schema, bytes, .. }) = &payload {
            new.restore(*schema, bytes)?;
        }
        activate(new, progress)?;
        Ok(TakenState {
            schemas: (from, self.to),
            bytes: payload.as_ref().map_or(0, |payload| payload.bytes.len() as u64),
            loss: payload.as_ref().map_or_else(|| "all state".to_owned(), |payload| payload.loss.clone()),
            snapshot: payload.as_ref().and_then(|payload| payload.snapshot),
            before: Some(Before { saved: self.saved, exported }),
            wanted: payload.filter(|_| is_wanted).map(|payload| state::envelope(new, payload.bytes)),
        })
    }

    fn convert(&self, converter: &Serving, exported: &Envelope) -> Result<Option<Payload>, DeployError> {
        let bytes = exported.payload.clone();
        state::convert(converter, &self.plan, self.from, self.to, bytes, self.bytes_max)
    }
}

/// A transfer failed: whose failure it is decides what has to be undone.
struct Failed {
    party: Party,
    /// The hook that has not returned.
    hangs: Option<Hook>,
    error: Box<DeployError>,
}

impl Failed {
    fn overdue<T>(party: Party, overdue: Overdue<T>) -> Self {
        let hangs = overdue.hanging_hook();
        Failed { party, hangs, error: Box::new(overdue.into()) }
    }

    /// The gate is open on the old version again.
    fn refuse(self, version: Version<Serving>, old: Lease<Serving>, means: &mut Means<'_>) -> Refused {
        let Failed { party, hangs, error } = self;
        match party {
            // Its own part thaws it, when it returns if not now: hooks of one
            // instance run one at a time.
            Party::Before => Refused::new(version, error_of(old.id().clone(), *error)),
            Party::Candidate => {
                let progress = Progress::at(Party::Before, Hook::Thaw);
                if let Err(overdue) = means.worker.run(&progress, move || thaw(&old)) {
                    tracing::error!(error = %overdue.error, "the old version did not thaw");
                }
                Refused { error, version, hangs }
            }
        }
    }
}

impl From<GateRefused> for Failed {
    fn from(error: GateRefused) -> Self {
        DeployError::from(error).into()
    }
}

impl From<DeployError> for Failed {
    fn from(error: DeployError) -> Self {
        Failed { party: Party::Candidate, hangs: None, error: Box::new(error) }
    }
}

/// An error of the version that serves, which is not the one to be refused.
fn error_of(before: VersionId, source: DeployError) -> DeployError {
    DeployError::Before { version: Box::new(before), source: Box::new(source) }
}

/// A version that is being frozen by a job. Dropping this thaws it, whatever
/// ends the job: an error, or a panic of the host's own.
struct Frozen<'a>(&'a Lease<Serving>);

impl Frozen<'_> {
    /// From here on, who gives the job up thaws the version.
    fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        thaw(self.0);
    }
}

/// Undoes `freeze`.
fn thaw(old: &Lease<Serving>) {
    if let Err(error) = enter(old, Hook::Thaw, |old| Ok(old.hook(Hook::Thaw)?)) {
        tracing::error!(plugin = %old.id().name, %error, "the old version did not thaw");
    }
}
