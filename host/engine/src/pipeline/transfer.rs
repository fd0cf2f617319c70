//! State from the version that serves to the one that is to: exported, converted
//! and restored, with callers waiting.
//!
//! What they wait for is what cannot be done without the last state: `freeze`, one
//! copy of the state out of the plugin, the steps, `restore`, `activate` and the
//! self-test. No state is packed, hashed or written to a disk meanwhile. Before the
//! gate closes, beside calls, a snapshot is saved and the steps are tried on it; so
//! whenever the process ends, a state of the version before is on the disk before
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

/// What will be done to state once the gate is closed.
pub(super) struct Transfer {
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
    /// Whether the new version makes the steps up while it restores: nothing is
    /// written out and read again between them, with callers waiting for it.
    new_restores_earlier: bool,
    bytes_max: usize,
    /// The memory of the snapshot that was taken beside calls, for the last one.
    buffer: Vec<u8>,
}

/// What the old version gave.
struct Given {
    exported: Envelope,
    /// What became of it, if the old version converts it.
    converted: Option<Converted>,
    /// How long that took.
    parts: PauseParts,
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
        let new_restores_earlier = !old_converts
            && matches!(plan, Plan::Steps(_))
            && new.payload().loaded().restores_earlier_schemas();
        let buffer = Vec::new();
        let transfer = Transfer {
            from,
            to,
            plan,
            older,
            wanted,
            saved,
            old_converts,
            new_restores_earlier,
            bytes_max,
            buffer,
        };
        let holder = Holder::new(HAND_OVER, monotonic_ns());
        let (party, converter) = if old_converts {
            (Party::Before, entry.slot.look(holder).ok_or(GateRefused::NotActive)?)
        } else {
            (Party::Candidate, new.lease(holder))
        };
        let begun = Instant::now();
        let buffer = transfer.try_steps(party, converter, envelope, means)?;
        let migrate = begun.elapsed();
        // The same again with callers waiting would be given up half-way, and
        // every retry would make them wait once more.
        if export + migrate > budget {
            let gate_timeout = means.gate_timeout;
            return Err(DeployError::OverBudget { export, migrate, budget, gate_timeout }.into());
        }
        Ok(Transfer { buffer, ..transfer })
    }

    /// Converts the snapshot, drops the outcome, and gives the snapshot's memory
    /// back. Steps are functions of bytes: whether they work is found out beside
    /// calls, and what they touch is in memory when callers wait for them.
    fn try_steps(
        &self,
        party: Party,
        converter: Lease<Serving>,
        snapshot: Envelope,
        means: &mut Means<'_>,
    ) -> Result<Vec<u8>, Failed> {
        let (plan, from, to, bytes_max) = (self.plan.clone(), self.from, self.to, self.bytes_max);
        let id = converter.id().clone();
        let tried = means.worker.run(&Progress::at(party, Hook::Migrate), move || {
            enter(&converter, Hook::Migrate, |converter| {
                state::convert(converter, &plan, from, to, &snapshot.payload, bytes_max).map(drop)
            })
            .map(|()| snapshot.payload)
        });
        let failed = match tried {
            Ok(Ok(buffer)) => return Ok(buffer),
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
        progress.enter(Party::Before, Hook::Export)?;
        let mut converted = None;
        let exported = match self.export_down(old)? {
            Some(ExportedDown { own, earlier }) => {
                converted = Some(Converted::Bytes(self.to, earlier));
                own
            }
            None => old.export_into(std::mem::take(&mut self.buffer), self.bytes_max)?,
        };
        let exported = state::envelope(old, exported);
        let mut parts = PauseParts { export: begun.elapsed(), ..PauseParts::default() };
        if self.old_converts && converted.is_none() {
            progress.enter(Party::Before, Hook::Migrate)?;
            converted = Some(self.convert(old, &exported, &mut parts)?);
        }
        Ok(Given { exported, converted, parts })
    }

    /// The state of the old version, and the same in the schema of the new one, if
    /// that is an earlier one and the old version can give both at once.
    fn export_down(&mut self, old: &Serving) -> Result<Option<ExportedDown>, DeployError> {
        if !self.old_converts || !matches!(self.plan, Plan::Steps(_)) {
            return Ok(None);
        }
        Ok(old.export_down(self.to, std::mem::take(&mut self.buffer), self.bytes_max)?)
    }

    fn take(
        mut self,
        new: &Serving,
        given: Given,
        progress: &Progress,
    ) -> Result<(TakenState, PauseParts), DeployError> {
        let Given { exported, converted, mut parts } = given;
        let converted = match converted {
            Some(converted) => converted,
            None if self.new_restores_earlier => Converted::AsItIs(self.from),
            None => self.convert(new, &exported, &mut parts)?,
        };
        let wanted = self.wanted.take();
        let (from, is_wanted) = wanted.as_ref().map_or((self.from, false), |wanted| (wanted.from, true));
        let stand_in = wanted.map(|wanted| wanted.payload).or(self.older);
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
            schemas: (from, self.to),
            bytes,
            loss,
            snapshot: stand_in.as_ref().and_then(|instead| instead.snapshot),
            before: Some(Before { saved: self.saved, exported }),
            wanted: stand_in.filter(|_| is_wanted).map(|instead| state::envelope(new, instead.bytes)),
        };
        Ok((taken, parts))
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
