//! Trials: a second version that serves a share of the calls beside the one
//! that serves, until it is promoted or rolled back.
//!
//! Nothing is decided here: who moves the share, and by what signs, asks for it.
//! State that goes over as a whole cannot be in two versions at once, so both
//! have to be stateless.

use super::{
    choose::unknown,
    control::Control,
    deploy::is_its_own_doing,
    waiting::{Done, Next, Prepared, Then, Trying},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, NotPublished, Share},
    event::{EventKind, EventLog, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{self, Candidate, DeployError, Refused},
};
use semver::Version;
use twox_hash::XxHash3_64;

impl Control {
    /// Lets `version` serve `share` of the calls beside the one that serves; a
    /// version that does so already gets another share.
    pub(super) fn try_version(&mut self, name: &PluginName, version: &Version, share: Share, done: Done) {
        let tried = match self.trial_of(name) {
            Some(trial) if trial.version == *version => self.set_share(name, share),
            Some(trial) => Err(is_tried(&trial)),
            None => match self.find_for_trial(name, version) {
                Ok(id) => return self.try_when_ready(&id, Trying { share, done }),
                Err(failure) => Err(failure),
            },
        };
        // Whoever asked may have gone away meanwhile.
        let _ = done.send(tried);
    }

    /// Begins a trial, or what has to be done first.
    pub(super) fn try_when_ready(&mut self, id: &VersionId, trying: Trying) {
        match self.begin_first_work(id) {
            Ok(true) => {
                if let Some(first) = self.firsts.get_mut(&id.name) {
                    first.trial = Some(trying);
                }
            }
            Ok(false) => self.try_now(id, trying),
            Err(error) => drop(trying.done.send(Err(self.not_tried(id, &error)))),
        }
    }

    /// Begins a trial of a version for which nothing is to be done first.
    fn try_now(&mut self, id: &VersionId, trying: Trying) {
        let slot = &self.shared.directory.entry(&id.name).slot;
        let live = slot.look(Holder::new("trial", monotonic_ns()));
        let baseline_has_state = live.is_some_and(|live| live.manifest().state.snapshot);
        let is_stateless = |candidate: &Candidate| {
            let has_state = baseline_has_state || candidate.manifest.state.snapshot;
            if has_state { Err(DeployError::SharedState) } else { Ok(()) }
        };
        let failure = match self.make_ready(id, is_stateless) {
            Ok(Some(prepared)) => {
                let next = Next { id: id.clone(), prepared, then: Then::Try(trying) };
                return self.take_up(next).expect("a trial is answered where it is refused");
            }
            Ok(None) => unknown(format!("{id} has just gone")),
            Err(error) => self.not_tried(id, &error),
        };
        let _ = trying.done.send(Err(failure));
    }

    /// The same of a version that no third one is in the way of.
    pub(super) fn try_prepared(&mut self, id: &VersionId, prepared: Prepared, trying: Trying) {
        let Trying { share, done } = trying;
        let begun = self.begin_trial(id, prepared, share);
        let _ = done.send(begun.map(|()| id.clone()).map_err(|error| self.not_tried(id, &error)));
    }

    /// Whether a version is being tried, which a choice would cross.
    pub(super) fn no_trial_runs(&self, name: &PluginName) -> Result<(), FailureReport> {
        self.trial_of(name).map_or(Ok(()), |trial| Err(is_tried(&trial)))
    }

    /// The version that could be tried now.
    pub(super) fn find_for_trial(
        &self,
        name: &PluginName,
        version: &Version,
    ) -> Result<VersionId, FailureReport> {
        self.nothing_waits(name)?;
        let catalog = self.shared.catalog();
        let versions = catalog.get(name.as_str());
        let present = versions.and_then(|versions| versions.find(version));
        let present = present.ok_or_else(|| unknown(format!("{name} {version} is not present")))?;
        match versions.and_then(|versions| versions.active()) {
            None => {
                let message = format!("no version of {name} serves, beside which another could be tried");
                Err(FailureReport::with_code(Code::CallNotActive, message))
            }
            Some(active) if *active == present.id => {
                let message = format!("{active} serves all calls already");
                Err(FailureReport::with_code(Code::RouteNotSplit, message))
            }
            Some(_) => Ok(present.id.clone()),
        }
    }

    fn begin_trial(&mut self, id: &VersionId, prepared: Prepared, share: Share) -> Result<(), DeployError> {
        let Prepared { entry, version, .. } = prepared;
        let can_serve = self.is_still_trusted(version.payload());
        if let Err(error) = can_serve.and_then(|()| pipeline::can_share(version.payload())) {
            self.unload(version.retire(), None);
            return Err(error);
        }
        let version = match pipeline::activate_beside(version, &mut self.worker) {
            Ok(version) => version,
            Err(refused) => return Err(self.give_up(refused)),
        };
        self.in_memory.insert(version.id(), id.clone());
        let begun = {
            let _change = entry.change();
            entry.slot.split(version, share, seed(id)).map(|()| {
                if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
                    versions.set_trial(Some(id.clone()));
                }
                self.shared.note(id, EventKind::TrialBegun { share_basis_points: share.basis_points() })
            })
        };
        match begun {
            Ok(event) => EventLog::tell(&event),
            Err(NotPublished { version, reason }) => {
                return Err(self.give_up(Refused {
                    error: Box::new(reason.into()),
                    version,
                    hangs: None,
                    commit_begun: false,
                }));
            }
        }
        Ok(())
    }

    /// Says that a trial did not begin. It does not by itself, later.
    pub(super) fn not_tried(&self, id: &VersionId, error: &DeployError) -> FailureReport {
        let failure = FailureReport::of(error);
        if is_its_own_doing(error)
            && let Some(versions) = self.shared.catalog().get_mut(id.name.as_str())
        {
            versions.refuse(id);
        }
        let (stage, retry_in_ms) = (error.stage(), None);
        self.shared.event(Some(id), EventKind::DeployFailed { stage, failure: failure.clone(), retry_in_ms });
        failure
    }

    fn set_share(&self, name: &PluginName, share: Share) -> Result<VersionId, FailureReport> {
        let entry = self.shared.directory.entry(name);
        let (trial, event) = {
            let _change = entry.change();
            let trial = self.trial_of(name).ok_or_else(|| no_trial(name))?;
            entry.slot.set_share(share).map_err(|_| no_trial(name))?;
            let share_basis_points = share.basis_points();
            let event = self.shared.note(&trial, EventKind::TrialShare { share_basis_points });
            (trial, event)
        };
        EventLog::tell(&event);
        Ok(trial)
    }

    /// Makes the version that is being tried the one that serves.
    pub(super) fn promote(&mut self, name: &PluginName) -> Result<VersionId, FailureReport> {
        let entry = self.shared.directory.entry(name);
        let (trial, left, event) = {
            let _change = entry.change();
            let trial = self.trial_of(name).ok_or_else(|| no_trial(name))?;
            let baseline = entry.slot.promote().map_err(|_| no_trial(name))?;
            if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                versions.promote(&trial);
            }
            let from = baseline.payload().id().to_string();
            let left = self.stand_by(name, Some(baseline), true);
            let event = self.shared.note(&trial, EventKind::Promoted { from });
            (trial, left, event)
        };
        EventLog::tell(&event);
        for left in left {
            self.unload(left, None);
        }
        // Files may have come while it was tried.
        self.reconcile_all(vec![name.clone()]);
        Ok(trial)
    }

    fn trial_of(&self, name: &PluginName) -> Option<VersionId> {
        self.shared.catalog().get(name.as_str())?.trial().cloned()
    }
}

/// What decides which keys a trial takes first: another one for each plugin and
/// version, and the same on every host.
fn seed(id: &VersionId) -> u64 {
    XxHash3_64::oneshot(id.to_string().as_bytes())
}

fn is_tried(trial: &VersionId) -> FailureReport {
    FailureReport::with_code(Code::RouteSplit, format!("{trial} is being tried"))
}

fn no_trial(name: &PluginName) -> FailureReport {
    FailureReport::with_code(Code::RouteNotSplit, format!("no version of {name} is being tried"))
}
