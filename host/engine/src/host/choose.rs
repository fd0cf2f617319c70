//! An operator's choice of a version.

use super::control::Control;
use crate::{
    event::FailureReport,
    failure::Code,
    id::{PluginName, VersionId},
};
use semver::Version;

impl Control {
    /// Makes `version` the one that serves, or the highest again. A choice that
    /// cannot be had is not kept: the one before stands.
    pub(super) fn activate(
        &mut self,
        name: &PluginName,
        version: Option<Version>,
    ) -> Result<VersionId, FailureReport> {
        self.has_left(name)?;
        if version.is_some() {
            self.no_trial_runs(name)?;
        }
        let before = self.choose(name, version)?;
        if let Err(failure) = self.reconcile(name) {
            if let Some(versions) = self.shared.catalog().get_mut(name.as_str()) {
                versions.pin_as_before(before);
            }
            // What is wanted now may be something else again; its failure would
            // be an event.
            let _ = self.reconcile(name);
            return Err(failure);
        }
        let active = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active().cloned());
        active.ok_or_else(|| unknown(format!("no version of {name} can be activated")))
    }

    /// Notes the choice; returns the one before.
    fn choose(&self, name: &PluginName, version: Option<Version>) -> Result<Option<Version>, FailureReport> {
        let mut catalog = self.shared.catalog();
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
        let before = versions.pinned().cloned();
        versions.pin(version);
        Ok(before)
    }
}

pub(super) fn unknown(message: String) -> FailureReport {
    FailureReport::with_code(Code::DeployUnknownVersion, message)
}
