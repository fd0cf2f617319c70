//! Making what is wanted what serves: the deployments of the command loop.

use super::{
    control::{Control, micros, nanos},
    options::RemovalPolicy,
    versions::Arrival,
    waiting::{Next, Prepared, Then},
};
use crate::{
    clock::monotonic_ns,
    dispatch::Holder,
    event::{EventKind, EventLog, FailureReport, StageTimes},
    failure::{Blame, Code, Failure},
    id::{PluginName, VersionId},
    pipeline::{self, Candidate, DeployError, Descent, Loss, Means, Reach, Refused, StatePolicy, TakenState},
    rehearse::RehearsalError,
    state::{chain::MigratePolicy, envelope::Envelope, store::Found},
};
use std::time::{Duration, Instant};

impl Control {
    /// Makes what is wanted what serves, or begins to: a deployment may have to
    /// [wait](Self::waits). Returns the first failure, after which a lower version
    /// may have been deployed.
    pub(super) fn reconcile(&mut self, name: &PluginName) -> Result<(), FailureReport> {
        self.stop_unwanted_rehearsal(name);
        let mut first_failure = Ok(());
        while let Some(step) = self.next_step(name) {
            match step {
                Step::Retire => {
                    self.retire(name);
                    break;
                }
                // Then it may be another one that is wanted, and else it is tried again.
                Step::Deploy(id) if self.tables_are_loaded(&id) && self.decide_choice(name) => {}
                Step::Deploy(id) => {
                    let Err(error) = self.deploy(&id) else { break };
                    first_failure = first_failure.and(Err(self.not_deployed(&id, &error)));
                }
            }
        }
        first_failure
    }

    /// Says that a version was not deployed, and whether it is tried again.
    pub(super) fn not_deployed(&self, id: &VersionId, error: &DeployError) -> FailureReport {
        let failure = FailureReport::of(error);
        let mut retry_in_ms = None;
        if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
            if is_its_own_doing(error) {
                versions.refuse(id);
            } else {
                retry_in_ms = Some(versions.retry_later(id, Instant::now()).as_millis() as u64);
            }
        }
        let kind = EventKind::DeployFailed { stage: error.stage(), failure: failure.clone(), retry_in_ms };
        self.shared.event(Some(id), kind);
        failure
    }

    fn next_step(&self, name: &PluginName) -> Option<Step> {
        // A version that waits for its last calls has state that the next one
        // needs; and one step is taken after the other.
        if self.ends_at.is_some() || self.is_leaving(name) || self.waits(name) {
            return None;
        }
        let catalog = self.shared.catalog();
        let versions = catalog.get(name.as_str())?;
        if versions.trial().is_some() || versions.went_back() {
            return None;
        }
        let active = versions.active();
        let keeps = self.options.removal == RemovalPolicy::Keep || versions.may_come_back();
        let Some(wanted) = versions.wanted() else {
            let all_gone = versions.present().next().is_none();
            return (active.is_some() && all_gone && !keeps).then_some(Step::Retire);
        };
        if active == Some(&wanted.id) {
            return None;
        }
        // Going back needs a reason: an operator's choice, or that the file of
        // what serves is gone and the policy says so. That a newer file was
        // refused is none.
        if let Some(active) = active
            && wanted.id.version < active.version
            && versions.pinned().is_none()
        {
            let own_file_is_there = versions.find(&active.version).is_some();
            if own_file_is_there || keeps {
                return None;
            }
        }
        Some(Step::Deploy(wanted.id.clone()))
    }

    fn deploy(&mut self, id: &VersionId) -> Result<(), DeployError> {
        if self.begin_first_work(id)? {
            return Ok(());
        }
        let Some(prepared) = self.make_ready(id, |_| Ok(()))? else { return Ok(()) };
        self.take_up(Next { id: id.clone(), prepared, then: Then::Deploy })
    }

    /// Deploys a version that no third one is in the way of.
    pub(super) fn bring_in(&mut self, id: &VersionId, prepared: Prepared) -> Result<(), DeployError> {
        let descent = {
            let serving = prepared.entry.slot.look(Holder::new("tables", monotonic_ns()));
            Descent::of(
                serving.as_deref().map(|serving| &**serving.tables()),
                prepared.version.payload().tables(),
            )
        };
        match descent.is_none() {
            true => self.publish(id, prepared, None, (&descent, Vec::new())).map(drop),
            false => self.descend(id, prepared, descent),
        }
    }

    /// Whether another library may be loaded.
    pub(super) fn has_room(&self) -> Result<(), DeployError> {
        let residents = self.shared.residents();
        match residents >= self.options.residents_max {
            true => Err(DeployError::Residents { residents }),
            false => Ok(()),
        }
    }

    /// From a file to a version that could serve, if `allow` lets it be started;
    /// none if the file has gone.
    pub(super) fn make_ready(
        &mut self,
        id: &VersionId,
        allow: impl FnOnce(&Candidate) -> Result<(), DeployError>,
    ) -> Result<Option<Prepared>, DeployError> {
        self.has_room()?;
        let from = {
            let catalog = self.shared.catalog();
            let Some(versions) = catalog.get(id.name.as_str()).filter(|v| v.find(&id.version).is_some())
            else {
                return Ok(None);
            };
            versions.active().map(ToString::to_string)
        };
        self.shared.event(Some(id), EventKind::Deploying { from });
        let Some((candidate, arrival)) = self.take_candidate(id)? else { return Ok(None) };
        allow(&candidate)?;
        let stages = StageTimes {
            notice_us: (arrival.taken_ns - arrival.noticed_ns.min(arrival.taken_ns)) / 1_000,
            stage_us: (arrival.staged_ns - arrival.taken_ns) / 1_000,
            inspect_us: (arrival.inspected_ns - arrival.staged_ns) / 1_000,
            rehearse_us: self.rehearsed_us(id).unwrap_or_default(),
            ..StageTimes::default()
        };
        self.prepare(id, candidate, stages, arrival.noticed_ns).map(Some)
    }

    /// The private copy of a version, a new one if it was used; none if its file has gone.
    pub(super) fn take_candidate(
        &mut self,
        id: &VersionId,
    ) -> Result<Option<(Candidate, Arrival)>, DeployError> {
        let (mut arrival, candidate, path) = {
            let mut catalog = self.shared.catalog();
            let Some(versions) = catalog.get_mut(id.name.as_str()) else { return Ok(None) };
            let candidate = versions.take_candidate(id);
            let Some(present) = versions.find(&id.version) else { return Ok(None) };
            (present.arrival, candidate, present.path.clone())
        };
        let candidate = match candidate {
            Some(candidate) => candidate,
            None => {
                // Not fresh from the watch: the way begins here.
                let now = monotonic_ns();
                arrival = Arrival { noticed_ns: now, taken_ns: now, ..Arrival::default() };
                let staged = self.stager.stage(&path)?;
                arrival.staged_ns = monotonic_ns();
                let mut candidate = pipeline::inspect(staged)?;
                pipeline::judge(&mut candidate, &self.shared.trust())?;
                arrival.inspected_ns = monotonic_ns();
                candidate
            }
        };
        if candidate.id != *id {
            // The file changed since it was read, which the watch is about to
            // report; what it is now is wanted then.
            return Err(DeployError::Replaced { wanted: id.to_string(), found: candidate.id.to_string() });
        }
        self.shared.trust().stands_by(&candidate.id, &candidate.voucher)?;
        Ok(Some((candidate, arrival)))
    }

    /// Loads a candidate and prepares its instance.
    pub(super) fn prepare(
        &mut self,
        id: &VersionId,
        candidate: Candidate,
        mut stages: StageTimes,
        noticed_ns: u64,
    ) -> Result<Prepared, DeployError> {
        let entry = self.shared.directory.entry(&id.name);
        let config = self.config_of(&id.name);
        let started = pipeline::start(candidate, &self.shared.directory, config, &mut self.worker);
        let started = match started {
            Ok(started) => started,
            Err(failed) => {
                if let Some(left) = failed.left {
                    self.unload_left(id, left);
                }
                return Err(*failed.error);
            }
        };
        stages.load_us = micros(started.load_time);
        stages.prepare_us = micros(started.prepare_time);
        Ok(Prepared { entry, version: started.version, stages, noticed_ns })
    }

    /// Makes a version serve, with the state of the one before or the `wanted`
    /// snapshot's; what became of state, if there was any.
    pub(super) fn publish(
        &mut self,
        id: &VersionId,
        prepared: Prepared,
        wanted: Option<Found>,
        (descent, losses): (&Descent, Vec<Loss>),
    ) -> Result<Option<Kept>, DeployError> {
        let Prepared { entry, version, mut stages, noticed_ns } = prepared;
        let reach = Reach { descent, losses };
        let is_allowed = self.is_still_trusted(version.payload());
        let is_allowed = is_allowed.and_then(|()| self.keep_choice_for_gate(&reach, version.payload()));
        if let Err(error) = is_allowed {
            self.unload(version.retire(), None);
            return Err(error);
        }
        let policy = self.policy();
        let mut problems = Vec::new();
        let in_memory = version.id();
        let mut means = Means {
            worker: &mut self.worker,
            store: &self.store,
            policy,
            wanted,
            quiesce_timeout: self.options.quiesce_timeout,
            gate_timeout: self.options.service.gate_timeout,
            problems: &mut problems,
        };
        let taken = pipeline::take_over(&entry, version, reach, &mut means);
        for problem in &problems {
            self.shared.event(Some(id), EventKind::StateProblem { failure: FailureReport::of(problem) });
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(refused) => return Err(self.give_up(refused)),
        };
        descent.finish();
        stages.prepare_us += micros(taken.activate);
        stages.pause_us = micros(taken.pause);
        taken.parts.tell(&mut stages);
        stages.publish_ns = nanos(taken.publish);
        stages.barrier_ns = nanos(taken.barrier);
        stages.total_us = monotonic_ns().saturating_sub(noticed_ns) / 1_000;
        self.in_memory.insert(in_memory, id.clone());
        if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
            versions.set_active(Some(id.clone()));
        }
        if taken.pause > Duration::ZERO {
            self.shared.records().entry(id.name.clone()).or_default().last_pause_us = Some(stages.pause_us);
        }
        if let Some(serving) = entry.slot.look(Holder::new("tables", monotonic_ns())) {
            // A loss that is allowed is taken at once.
            let alone = taken.old.is_none() && taken.losses.is_empty();
            self.begin_probation(&id.name, serving.tables(), alone);
        }
        let from = taken.old.as_ref().map(|old| old.payload().id().to_string());
        let left = self.stand_by(&id.name, taken.old, taken.may_go_back);
        let in_flight = taken.in_flight as u64;
        let event = self.shared.note(id, EventKind::Published { from, in_flight, stages });
        drop(taken.change);
        EventLog::tell(&event);
        for left in left {
            self.unload(left, None);
        }
        let kept = taken.state.map(|state| self.state_taken(id, state));
        for Loss { table, rows } in taken.losses {
            self.shared.event(Some(id), EventKind::TableLoss { table, rows });
        }
        let _ = self.shared.carry_out_choice(&id.name); // Told when it is answered.
        // The first version is committed before a second one is begun with.
        self.settle_tables_of(&entry);
        Ok(kept)
    }

    /// Ends a version that does not get to serve. What it wrote to its tables
    /// while it was activated does not count. Only a commit leaves the choice of it in
    /// doubt: whatever else is undone takes as long as its disk likes.
    pub(super) fn give_up(&mut self, refused: Refused) -> DeployError {
        let Refused { error, version, hangs, commit_begun } = refused;
        self.shared.of_choice(&version.payload().id().name, |versions| {
            let standing = versions.standing();
            match &*error {
                // Nobody took it back.
                DeployError::Panicked => standing.keep_doubt(),
                _ if !commit_begun => _ = standing.settle(),
                _ => {}
            }
        });
        self.take_back_writes(version.payload());
        self.unload(version.retire(), hangs);
        *error
    }

    /// Keeps what a hand-over has left behind, and then what was restored in its
    /// place: the newest snapshot is what a start restores.
    fn state_taken(&self, id: &VersionId, state: TakenState) -> Kept {
        let TakenState { schemas: (from_schema, to_schema), bytes, loss, snapshot, before, wanted } = state;
        let kind = match (snapshot, before.is_none() || wanted.is_some()) {
            (Some(snapshot), true) => {
                EventKind::StateRestored { snapshot, from_schema, to_schema, bytes, loss: loss.clone() }
            }
            _ => EventKind::StateHandedOver { from_schema, to_schema, bytes, loss: loss.clone() },
        };
        self.shared.event(Some(id), kind);
        // If this one cannot be saved, the one from before the gate is there.
        let before = before.map(|before| self.keep_state(id, &before.exported).unwrap_or(before.saved));
        let newest = wanted.and_then(|wanted| self.keep_state(id, &wanted));
        Kept { schemas: (from_schema, to_schema), bytes, loss, before, newest }
    }

    /// Saves state that nobody has asked to be saved.
    fn keep_state(&self, id: &VersionId, envelope: &Envelope) -> Option<u64> {
        let saved = pipeline::save_changed(&self.store, envelope);
        let saved = saved.inspect_err(|error| self.state_problem(id, FailureReport::of(error)));
        saved.ok().map(|saved| saved.snapshot.sequence())
    }

    pub(super) fn policy(&self) -> StatePolicy {
        StatePolicy {
            migrate: MigratePolicy::Migrate,
            allow_loss: self.options.allow_state_loss,
            bytes_max: self.options.state_bytes_max,
        }
    }

    pub(super) fn config_of(&self, name: &PluginName) -> String {
        self.options.configs.get(name.as_str()).map(ToString::to_string).unwrap_or_default()
    }
}

/// What became of state when a version took over.
pub(super) struct Kept {
    /// Schema version before and after.
    pub(super) schemas: (u32, u32),
    pub(super) bytes: u64,
    pub(super) loss: String,
    /// The snapshot of what the version before had.
    pub(super) before: Option<u64>,
    /// The snapshot of what was restored instead, the newest; `None` if it could
    /// not be saved, or nothing was.
    pub(super) newest: Option<u64>,
}

/// What has to be done so that the wanted version serves.
enum Step {
    Deploy(VersionId),
    Retire,
}

/// Whether a version was refused for what it is or does, so that trying it
/// again is of no use. What the version before did, what the host lacks for now
/// and what an operator can mend passes.
pub(super) fn is_its_own_doing(error: &DeployError) -> bool {
    // A signature may be mended, and a key named again.
    let is_of_before =
        matches!(error, DeployError::Before { .. } | DeployError::Rehearsal(RehearsalError::Before { .. }));
    if is_of_before || matches!(error, DeployError::Trust(_)) {
        return false;
    }
    match error.code() {
        // The configuration stands for as long as the host runs.
        Code::ConfigInvalid => true,
        // One slow call at that moment; a file that is being written.
        Code::GateQuiesceTimeout | Code::GateBudget | Code::StageChanging => false,
        code => matches!(code.blame(), Blame::Artifact | Blame::Plugin),
    }
}
