//! Making what is wanted what serves: the deployments of the command loop.

use super::{
    catalog::Arrival,
    control::{Control, micros, nanos},
    options::RemovalPolicy,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Retired, Version},
    event::{EventKind, FailureReport, StageTimes},
    failure::Code,
    id::{PluginName, VersionId},
    load::Hook,
    pipeline::{self, DeployError, Left, Means, StatePolicy, TakenState, Unloading},
    service::{Entry, Serving},
    state::chain::MigratePolicy,
};
use std::{sync::Arc, time::Duration};

impl Control {
    pub(super) fn reconcile_all(&mut self) {
        let names = self.shared.catalog().names();
        for name in names {
            // A failure was reported as an event; there is nobody else to tell.
            let _ = self.reconcile(&name);
        }
    }

    /// Makes what is wanted what serves. Returns the first failure, after
    /// which a lower version may have been deployed.
    fn reconcile(&mut self, name: &PluginName) -> Result<(), FailureReport> {
        let mut first_failure = Ok(());
        while let Some(step) = self.next_step(name) {
            match step {
                Step::Retire => {
                    self.retire(name);
                    break;
                }
                Step::Deploy(id) => {
                    let Err(error) = self.deploy(&id) else { break };
                    let failure = FailureReport::of(&error);
                    let kind = EventKind::DeployFailed { stage: error.stage(), failure: failure.clone() };
                    self.event(Some(&id), kind);
                    if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                        versions.refuse(&id);
                    }
                    first_failure = first_failure.and(Err(failure));
                }
            }
        }
        first_failure
    }

    fn next_step(&self, name: &PluginName) -> Option<Step> {
        let catalog = self.shared.catalog();
        let versions = catalog.get(name.as_str())?;
        let active = versions.active.as_ref();
        let Some(wanted) = versions.wanted() else {
            let all_gone = versions.present().next().is_none();
            let retire = active.is_some() && all_gone && self.options.removal == RemovalPolicy::FallBack;
            return retire.then_some(Step::Retire);
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
            let own_file_refused = versions.find(&active.version).is_some();
            if own_file_refused || self.options.removal == RemovalPolicy::Keep {
                return None;
            }
        }
        Some(Step::Deploy(wanted.id.clone()))
    }

    fn deploy(&mut self, id: &VersionId) -> Result<(), DeployError> {
        let residents = self.shared.residents();
        if residents >= self.options.residents_max {
            return Err(DeployError::Residents { residents });
        }
        let (from, mut arrival, candidate, path) = {
            let mut catalog = self.shared.catalog();
            let Some(versions) = catalog.get_mut(id.name.as_str()) else {
                return Ok(());
            };
            let candidate = versions.take_candidate(id);
            let Some(present) = versions.find(&id.version) else {
                return Ok(());
            };
            let (arrival, path) = (present.arrival, present.path.clone());
            (versions.active.as_ref().map(ToString::to_string), arrival, candidate, path)
        };
        self.event(Some(id), EventKind::Deploying { from: from.clone() });
        let candidate = match candidate {
            Some(candidate) => candidate,
            None => {
                // Not fresh from the watch: the way begins here.
                let now = monotonic_ns();
                arrival = Arrival { noticed_ns: now, taken_ns: now, ..Arrival::default() };
                let staged = self.stager.stage(&path)?;
                arrival.staged_ns = monotonic_ns();
                let candidate = pipeline::inspect(staged)?;
                arrival.inspected_ns = monotonic_ns();
                candidate
            }
        };
        if candidate.id != *id {
            // The file changed since it was read, which the watch is about to
            // report; what it is now is wanted then.
            return Err(DeployError::Replaced { wanted: id.to_string(), found: candidate.id.to_string() });
        }
        let mut stages = StageTimes {
            notice_us: (arrival.taken_ns - arrival.noticed_ns.min(arrival.taken_ns)) / 1_000,
            stage_us: (arrival.staged_ns - arrival.taken_ns) / 1_000,
            inspect_us: (arrival.inspected_ns - arrival.staged_ns) / 1_000,
            ..StageTimes::default()
        };
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
        self.publish(id, &entry, started.version, from, stages, arrival.noticed_ns)
    }

    fn publish(
        &mut self,
        id: &VersionId,
        entry: &Arc<Entry>,
        version: Version<Serving>,
        from: Option<String>,
        mut stages: StageTimes,
        noticed_ns: u64,
    ) -> Result<(), DeployError> {
        let policy = self.policy();
        let mut problems = Vec::new();
        let mut means = Means {
            worker: &mut self.worker,
            store: &self.store,
            policy,
            quiesce_timeout: self.options.quiesce_timeout,
            gate_timeout: self.options.service.gate_timeout,
            problems: &mut problems,
        };
        let taken = pipeline::take_over(entry, version, &mut means);
        for problem in &problems {
            self.event(Some(id), EventKind::StateProblem { failure: FailureReport::of(problem) });
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(refused) => {
                self.unload(refused.version.retire(), refused.hangs);
                return Err(*refused.error);
            }
        };
        stages.prepare_us += micros(taken.activate);
        stages.pause_us = micros(taken.pause);
        stages.publish_ns = nanos(taken.publish);
        stages.barrier_ns = nanos(taken.barrier);
        stages.total_us = monotonic_ns().saturating_sub(noticed_ns) / 1_000;
        if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
            versions.active = Some(id.clone());
        }
        if taken.pause > Duration::ZERO {
            self.shared.records().entry(id.name.clone()).or_default().last_pause_us = Some(stages.pause_us);
        }
        self.event(Some(id), EventKind::Published { from, in_flight: taken.in_flight as u64, stages });
        if let Some(old) = taken.old {
            self.unload(old, None);
        }
        if let Some(state) = taken.state {
            self.state_taken(id, state);
        }
        Ok(())
    }

    fn state_taken(&self, id: &VersionId, state: TakenState) {
        let TakenState { schemas: (from_schema, to_schema), bytes, loss, exported } = state;
        let Some(exported) = exported else {
            return self.event(Some(id), EventKind::StateRestored { from_schema, to_schema, bytes, loss });
        };
        self.event(Some(id), EventKind::StateHandedOver { from_schema, to_schema, bytes, loss });
        if let Err(error) = pipeline::save(&self.store, &exported) {
            // The snapshot from before the gate is there; this one is newer.
            self.event(Some(id), EventKind::StateProblem { failure: FailureReport::of(&error) });
        }
    }

    pub(super) fn activate(
        &mut self,
        name: &PluginName,
        version: Option<semver::Version>,
    ) -> Result<VersionId, FailureReport> {
        {
            let mut catalog = self.shared.catalog();
            let unknown = |message: String| FailureReport::with_code(Code::DeployUnknownVersion, message);
            let versions = catalog
                .get_mut(name.as_str())
                .ok_or_else(|| unknown(format!("no file of plugin {name} is present")))?;
            if let Some(version) = &version
                && versions.find(version).is_none()
            {
                let present: Vec<String> =
                    versions.present().map(|present| present.id.version.to_string()).collect();
                let message = format!("{name} {version} is not present; there are: {}", present.join(", "));
                return Err(unknown(message));
            }
            versions.pin(version);
        }
        let before = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active.clone());
        let done = self.reconcile(name);
        let after = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active.clone());
        match (done, after) {
            (Ok(()), Some(active)) => Ok(active),
            (Err(failure), _) => {
                // A choice that cannot be had is not kept.
                if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                    versions.pin(before.map(|id| id.version));
                }
                Err(failure)
            }
            (Ok(()), None) => Err(FailureReport::with_code(
                Code::DeployUnknownVersion,
                format!("no version of {name} can be activated"),
            )),
        }
    }

    pub(super) fn retire(&mut self, name: &PluginName) {
        let entry = self.shared.directory.entry(name);
        let id = self.shared.catalog().get_mut(name.as_str()).and_then(|versions| versions.active.take());
        match entry.slot.withdraw() {
            Ok(retired) => {
                self.event(id.as_ref(), EventKind::Retired);
                self.save_retired(&retired);
                self.unload(retired, None);
            }
            Err(error) => tracing::debug!(plugin = %name, %error, "there is nothing to retire"),
        }
    }

    fn policy(&self) -> StatePolicy {
        StatePolicy {
            migrate: MigratePolicy::Migrate,
            allow_loss: self.options.allow_state_loss,
            bytes_max: self.options.state_bytes_max,
        }
    }

    fn config_of(&self, name: &PluginName) -> String {
        self.options.configs.get(name.as_str()).map(ToString::to_string).unwrap_or_default()
    }

    fn unload(&mut self, retired: Retired<Serving>, hangs: Option<Hook>) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_version(retired, hangs, options, events, self.worker.nudge()));
    }

    fn unload_left(&mut self, id: &VersionId, left: Left) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_candidate(id.clone(), left, options, events, self.worker.nudge()));
    }

    fn keep(&self, unloading: std::io::Result<Unloading>) {
        match unloading {
            Ok(unloading) => self.shared.unloads().push(unloading),
            Err(error) => {
                tracing::error!(%error, "no thread for an unload: the version stays in memory")
            }
        }
    }
}

/// What has to be done so that the wanted version serves.
enum Step {
    Deploy(VersionId),
    Retire,
}
