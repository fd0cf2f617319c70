//! Trials: a second version that serves a share of the calls beside the one
//! that serves, until it is promoted or rolled back.
//!
//! Nothing is decided here: who moves the share, and by what signs, asks for it.
//! State that goes over as a whole cannot be in two versions at once, so both
//! have to be stateless.

use super::{
    choose::unknown,
    control::Control,
    deploy::{Ready, is_its_own_doing},
};
use crate::{
    dispatch::{NotPublished, Share},
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{self, DeployError},
};
use semver::Version;
use twox_hash::XxHash3_64;

impl Control {
    /// Lets `version` serve `share` of the calls beside the one that serves; a
    /// version that does so already gets another share.
    pub(super) fn try_version(
        &mut self,
        name: &PluginName,
        version: &Version,
        share: Share,
    ) -> Result<VersionId, FailureReport> {
        let id = self.find_for_trial(name, version)?;
        if self.trial_of(name).as_ref() == Some(&id) {
            return self.set_share(name, share);
        }
        self.begin_trial(&id, share).map(|()| id.clone()).map_err(|error| self.not_tried(&id, &error))
    }

    /// Says that a trial did not begin. It does not by itself, later.
    fn not_tried(&self, id: &VersionId, error: &DeployError) -> FailureReport {
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

    fn find_for_trial(&self, name: &PluginName, version: &Version) -> Result<VersionId, FailureReport> {
        let catalog = self.shared.catalog();
        let versions = catalog.get(name.as_str());
        let present = versions.and_then(|versions| versions.find(version));
        let present = present.ok_or_else(|| unknown(format!("{name} {version} is not present")))?;
        if versions.and_then(|versions| versions.active()) == Some(&present.id) {
            let message = format!("{} serves all calls already", present.id);
            return Err(FailureReport::with_code(Code::RouteNotSplit, message));
        }
        Ok(present.id.clone())
    }

    fn begin_trial(&mut self, id: &VersionId, share: Share) -> Result<(), DeployError> {
        let Some(Ready { entry, version, .. }) = self.make_ready(id)? else {
            return Ok(());
        };
        let version = match pipeline::activate_beside(&entry, version, &mut self.worker) {
            Ok(version) => version,
            Err(refused) => {
                self.unload(refused.version.retire(), refused.hangs);
                return Err(*refused.error);
            }
        };
        self.in_memory.insert(version.id(), id.clone());
        let split = {
            // Who rolls back holds it too: the slot and what is written down of
            // it change together.
            let _standby = self.shared.standby();
            let split = entry.slot.split(version, share, seed(id));
            if split.is_ok()
                && let Some(versions) = self.shared.catalog().get_mut(id.name.as_str())
            {
                versions.set_trial(Some(id.clone()));
            }
            split
        };
        if let Err(NotPublished { version, reason }) = split {
            self.unload(version.retire(), None);
            return Err(reason.into());
        }
        self.shared.event(Some(id), EventKind::TrialBegun { share_basis_points: share.basis_points() });
        Ok(())
    }

    fn set_share(&mut self, name: &PluginName, share: Share) -> Result<VersionId, FailureReport> {
        let trial = self.trial_of(name).ok_or_else(|| no_trial(name))?;
        let entry = self.shared.directory.entry(name);
        entry.slot.set_share(share).map_err(|_| no_trial(name))?;
        let kind = EventKind::TrialShare { share_basis_points: share.basis_points() };
        self.shared.event(Some(&trial), kind);
        Ok(trial)
    }

    /// Makes the version that is being tried the one that serves.
    pub(super) fn promote(&mut self, name: &PluginName) -> Result<VersionId, FailureReport> {
        let trial = self.trial_of(name).ok_or_else(|| no_trial(name))?;
        let entry = self.shared.directory.entry(name);
        let before = self.stand_down(name);
        let baseline = entry.slot.promote().map_err(|_| no_trial(name))?;
        if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
            versions.promote(&trial);
        }
        let from = baseline.payload().id().to_string();
        let left = self.stand_by(baseline);
        self.shared.event(Some(&trial), EventKind::Promoted { from });
        for left in left.into_iter().chain(before.map(|before| before.retired)) {
            self.unload(left, None);
        }
        // Files may have come meanwhile.
        let _ = self.reconcile(name);
        Ok(trial)
    }

    /// Ends a trial without a verdict on the version: the plugin leaves.
    pub(super) fn end_trial(&mut self, name: &PluginName) {
        let entry = self.shared.directory.entry(name);
        if let Ok(challenger) = entry.slot.roll_back() {
            if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                versions.set_trial(None);
            }
            self.unload(challenger, None);
        }
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

fn no_trial(name: &PluginName) -> FailureReport {
    FailureReport::with_code(Code::RouteNotSplit, format!("no version of {name} is being tried"))
}
