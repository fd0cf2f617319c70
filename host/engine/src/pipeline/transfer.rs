//! State from the version that serves to the one that is to: exported, converted
//! and restored, with callers waiting.
//!
//! What they wait for is what cannot be done without the last state: `freeze`, one
//! copy of the state out of the plugin, the steps, `restore`, `activate` and the
//! self-test. No state is packed, hashed or written to a disk meanwhile. Before the
//! gate closes, beside calls, a snapshot is saved that was exported the same way,
//! and the steps are tried on it, so that nothing of it but `restore` itself is
//! done for the first time with callers waiting, or takes longer than they wait;
//! and whenever the process ends, a state of the version before is on the disk before
//! the new one has served a call. The last state, as it was behind the gate, is
//! saved when the gate is open again.
//!
//! Whatever fails, the old instance was not touched but for `freeze`, which `thaw`
//! undoes. The gate itself is not moved here.

use super::{
    error::DeployError,
    progress::{Party, Progress},
    saved::{Saved, from_disk_as_wanted},
    state::{self, Converted, Payload, StatePolicy},
    taken::{Before, HAND_OVER, Means, PauseParts, Refused, TakenState, activate, enter},
    worker::Overdue,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{GateRefused, Holder, Lease, Sealed, Version},
    id::VersionId,
    load::{ExportedDown, Hook},
    service::{Entry, Serving},
    state::{chain::Plan, envelope::Envelope},
};
use std::time::{Duration, Instant};

/// The way of the state. It is gone twice: beside calls, to find out whether it
/// leads there and in what time, and behind the gate.
#[derive(Clone)]
struct Way {
    from: u32,
    to: u32,
    plan: Plan,
    /// Whether the old version converts: on the way down.
    old_converts: bool,
    /// Whether the new version makes the steps up while it restores.
    new_restores_earlier: bool,
    bytes_max: usize,
}

/// What the old version gave.
struct Given {
    exported: Envelope,
    /// What became of it, if the old version converts it.
    converted: Option<Converted>,
    /// How long that took.
    parts: PauseParts,
}

/// What came of going the way beside calls.
struct Tried {
    /// How long it took, without the last reading: what `restore` itself does cannot
    /// be tried, and that its state was written out stands for it.
    parts: PauseParts,
    /// The memory of what was given.
    buffer: Vec<u8>,
}

impl Way {
    /// What the old version has to give, in the memory of `buffer`.
    fn export(&self, old: &Serving, buffer: Vec<u8>, progress: &Progress) -> Result<Given, DeployError> {
        let begun = Instant::now();
        let (exported, mut converted) = match self.old_converts && matches!(self.plan, Plan::Steps(_)) {
            true => match old.export_down(self.to, buffer, self.bytes_max)? {
                Some(ExportedDown { own, earlier }) => (own, Some(Converted::Bytes(self.to, earlier))),
                None => (old.export(self.bytes_max)?, None),
            },
            false => (old.export_into(buffer, self.bytes_max)?, None),
        };
        let exported = state::envelope(old, exported);
        let mut parts = PauseParts { export: begun.elapsed(), ..PauseParts::default() };
        if self.old_converts && converted.is_none() {
            progress.enter(Party::Before, Hook::Migrate)?;
            converted = Some(self.convert(old, &exported, &mut parts)?);
        }
        Ok(Given { exported, converted, parts })
    }

    fn convert(
        &self,
        converter: &Serving,
        exported: &Envelope,
        parts: &mut PauseParts,
    ) -> Result<Converted, DeployError> {
        let (begun, bytes) = (Instant::now(), &exported.payload);
        let converted = state::convert(converter, &self.plan, self.from, self.to, bytes, self.bytes_max);
        parts.migrate = begun.elapsed();
        converted
    }

    /// What `restore` will do with what was given, or with what comes in its place,
    /// but for the instance: it is converted, and read in the new version's own
    /// schema, as it has to be again at the next start.
    fn try_restore(
        &self,
        new: &Serving,
        given: Given,
        instead: Option<&Payload>,
        progress: &Progress,
    ) -> Result<Tried, DeployError> {
        let Given { exported, converted, mut parts } = given;
        let converted = match converted {
            Some(converted) => converted,
            None => self.convert(new, &exported, &mut parts)?,
        };
        progress.enter(Party::Candidate, Hook::Restore)?;
        match &converted {
            Converted::AsItIs(schema) => new.loaded().read(*schema, &exported.payload)?,
            Converted::Bytes(schema, bytes) => new.loaded().read(*schema, bytes)?,
            Converted::Left => {
                instead.map_or(Ok(()), |instead| new.loaded().read(instead.schema, &instead.bytes))?;
            }
        }
        Ok(Tried { parts, buffer: exported.payload })
    }
}

/// What will be done to state once the gate is closed.
pub(super) struct Transfer {
    way: Way,
    /// From the disk, in the place of what the old version has.
    instead: Option<Payload>,
    /// The schema that it was saved in, if it was asked for.
    wanted: Option<u32>,
    /// The snapshot of the old version that was taken beside calls.
    saved: u64,
    /// The memory of the snapshot that was taken beside calls, for the last one.
    buffer: Vec<u8>,
}

impl Transfer {
    /// Plans it, and tries all of it that can be tried beside calls.
    pub(super) fn plan(
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
        let (plan, instead, wanted) = match wanted {
            // What the old version has is exported for the way back, and goes nowhere.
            Some(Saved { from, payload }) => {
                (Plan::SnapshotBefore { schema_version: to }, Some(payload), Some(from))
            }
            None => {
                let (plan, older) = state::plan(name, from, new.payload(), steps, means.policy, means.store)?;
                (plan, older, None)
            }
        };
        drop(old);
        let new_restores_earlier = !old_converts
            && matches!(plan, Plan::Steps(_))
            && new.payload().loaded().restores_earlier_schemas();
        let StatePolicy { bytes_max, .. } = means.policy;
        let way = Way { from, to, plan, old_converts, new_restores_earlier, bytes_max };
        let holder = Holder::new(HAND_OVER, monotonic_ns());
        let old = entry.slot.look(holder).ok_or(GateRefused::NotActive)?;
        let given = try_export(&way, old, means)?;
        // It proves that the disk takes the state, and is what a rollback falls
        // back on.
        let saved = state::save_changed(means.store, &given.exported).map_err(DeployError::Save)?;
        let saved = saved.snapshot.sequence();
        let (tried, instead) = try_restore(&way, new.lease(holder), given, instead, means)?;
        let Tried { parts: PauseParts { export, migrate, .. }, buffer } = tried;
        // The same again with callers waiting would be given up half-way, and
        // every retry would make them wait once more.
        if export + migrate > budget {
            let gate_timeout = means.gate_timeout;
            return Err(DeployError::OverBudget { export, migrate, budget, gate_timeout }.into());
        }
        Ok(Transfer { way, instead, wanted, saved, buffer })
    }

    /// Freeze, export, convert, restore, activate, self-test: one job, so that
    /// callers at the gate wait for one change of threads only.
    pub(super) fn run(
        mut self,
        sealed: &Sealed<'_, Serving>,
        version: &Version<Serving>,
        progress: &Progress,
        means: &mut Means<'_>,
    ) -> Result<(TakenState, PauseParts), Failed> {
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

    fn give(&mut self, old: &Serving, progress: &Progress) -> Result<Given, DeployError> {
        let begun = Instant::now();
        old.hook(Hook::Freeze)?;
        let freeze = begun.elapsed();
        progress.enter(Party::Before, Hook::Export)?;
        let mut given = self.way.export(old, std::mem::take(&mut self.buffer), progress)?;
        given.parts.export += freeze;
        Ok(given)
    }

    fn take(
        self,
        new: &Serving,
        given: Given,
        progress: &Progress,
    ) -> Result<(TakenState, PauseParts), DeployError> {
        let Given { exported, converted, mut parts } = given;
        let converted = match converted {
            Some(converted) => converted,
            None if self.way.new_restores_earlier => Converted::AsItIs(self.way.from),
            None => self.way.convert(new, &exported, &mut parts)?,
        };
        let stand_in = self.instead;
        let state = match (&converted, &stand_in) {
            (Converted::AsItIs(schema), _) => Some((*schema, &exported.payload)),
            (Converted::Bytes(schema, bytes), _) => Some((*schema, bytes)),
            (Converted::Left, stand_in) => stand_in.as_ref().map(|instead| (instead.schema, &instead.bytes)),
        };
        progress.enter(Party::Candidate, Hook::Restore)?;
        let begun = Instant::now();
        if let Some((schema, bytes)) = state {
            new.restore(schema, bytes)?;
        }
        parts.restore = begun.elapsed();
        activate(new, progress)?;
        let bytes = state.map_or(0, |(_, bytes)| bytes.len() as u64);
        let loss = match (state, &stand_in) {
            (None, _) => "all state".to_owned(),
            (Some(_), stand_in) => stand_in.as_ref().map(|instead| instead.loss.clone()).unwrap_or_default(),
        };
        let taken = TakenState {
            schemas: (self.wanted.unwrap_or(self.way.from), self.way.to),
            bytes,
            loss,
            snapshot: stand_in.as_ref().and_then(|instead| instead.snapshot),
            before: Some(Before { saved: self.saved, exported }),
            wanted: stand_in
                .filter(|_| self.wanted.is_some())
                .map(|instead| state::envelope(new, instead.bytes)),
        };
        Ok((taken, parts))
    }
}

/// What the old version gives, beside calls: what its code touches is in memory
/// then when callers wait for it.
fn try_export(way: &Way, old: Lease<Serving>, means: &mut Means<'_>) -> Result<Given, Failed> {
    let (way, before) = (way.clone(), old.id().clone());
    let progress = Progress::at(Party::Before, Hook::Export);
    let inside = progress.clone();
    let tried = means
        .worker
        .run(&progress, move || enter(&old, Hook::Export, |old| way.export(old, Vec::new(), &inside)));
    tried.map_err(DeployError::from).flatten().map_err(|error| error_of(before, error).into())
}

/// What the new version will do with it.
fn try_restore(
    way: &Way,
    new: Lease<Serving>,
    given: Given,
    instead: Option<Payload>,
    means: &mut Means<'_>,
) -> Result<(Tried, Option<Payload>), Failed> {
    let way = way.clone();
    let progress = Progress::at(Party::Candidate, Hook::Migrate);
    let inside = progress.clone();
    let tried = means.worker.run(&progress, move || {
        let tried = enter(&new, Hook::Migrate, |new| way.try_restore(new, given, instead.as_ref(), &inside))?;
        Ok::<_, DeployError>((tried, instead))
    });
    match tried {
        Ok(tried) => Ok(tried?),
        Err(overdue) => Err(Failed::overdue(Party::Candidate, overdue)),
    }
}

/// A transfer failed: whose failure it is decides what has to be undone.
pub(super) struct Failed {
    party: Party,
    /// The hook that has not returned.
    pub(super) hangs: Option<Hook>,
    pub(super) error: Box<DeployError>,
}

impl Failed {
    fn overdue<T>(party: Party, overdue: Overdue<T>) -> Self {
        let hangs = overdue.hanging_hook();
        Failed { party, hangs, error: Box::new(overdue.into()) }
    }

    /// The gate is open on the old version again.
    pub(super) fn refuse(
        self,
        version: Version<Serving>,
        old: Lease<Serving>,
        means: &mut Means<'_>,
    ) -> Refused {
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
                Refused { hangs, ..Refused::new(version, *error) }
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
