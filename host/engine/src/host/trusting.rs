//! Other keys and digests while a host runs: files are judged anew, and what is in memory
//! and would not be let in now is told.

use super::{control::Control, error::HostError, shared::Shared};
use crate::{
    artifact::trust::{Trust, Voucher},
    clock::monotonic_ns,
    dispatch::{Arm, Holder},
    event::{EventKind, FailureReport},
    id::VersionId,
    pipeline::DeployError,
    service::{Entry, Serving},
};
use std::{path::PathBuf, time::Duration};

/// How long is waited for whoever changes which version serves.
const PATIENCE: Duration = Duration::from_millis(250);

impl Control {
    /// Asks other things of files from now on.
    pub(super) fn set_trust(&mut self, trust: Trust) -> Result<(), FailureReport> {
        check(&trust, &self.shared.trust()).map_err(|error| FailureReport::of(&error))?;
        self.shared.set_trust(trust);
        for entry in self.shared.directory.all() {
            let distrusted = {
                // Nobody goes back between one look and the next; unless a disk hangs.
                let _change = entry.change_within(PATIENCE);
                self.shared.distrusted(&entry)
            };
            for (id, failure) in distrusted {
                self.shared.event(Some(&id), EventKind::Distrusted { failure });
            }
        }
        let files: Vec<PathBuf> = {
            let mut catalog = self.shared.catalog();
            // They were judged by other keys.
            catalog.forget_copies();
            catalog.files().chain(self.untrusted.paths()).map(ToOwned::to_owned).collect()
        };
        files.iter().for_each(|path| self.watcher.report_again(path));
        Ok(())
    }
}

impl Control {
    /// The file of a version is trusted: so is what serves of it.
    pub(super) fn vouch_for(&self, id: &VersionId, voucher: &Voucher) {
        let Some(entry) = self.shared.directory.find(id.name.as_str()) else { return };
        let holder = || Holder::new("trust", monotonic_ns());
        let serving = [entry.slot.look(holder()), entry.slot.look_at(Arm::Challenger, holder())];
        for serving in serving.iter().flatten().filter(|serving| serving.id() == id) {
            serving.set_voucher(voucher.clone());
        }
    }

    /// Whether what vouched for a version when its file was judged does so now.
    pub(super) fn is_still_trusted(&self, serving: &Serving) -> Result<(), DeployError> {
        Ok(self.shared.trust().stands_by(serving.id(), &serving.voucher())?)
    }
}

impl Shared {
    /// What of a plugin can serve calls, and would not be let in now; why.
    pub(super) fn distrusted(&self, entry: &Entry) -> Vec<(VersionId, FailureReport)> {
        let trust = self.trust();
        let judge = |serving: &Serving| {
            let error = trust.stands_by(serving.id(), &serving.voucher()).err()?;
            Some((serving.id().clone(), FailureReport::of(&error)))
        };
        let holder = || Holder::new("status", monotonic_ns());
        let serves = entry.slot.look(holder()).and_then(|serving| judge(&serving));
        let tried = entry.slot.look_at(Arm::Challenger, holder()).and_then(|serving| judge(&serving));
        let standby = self.standby();
        let stands_by = standby.get(&entry.name).and_then(|standby| judge(standby.retired.payload()));
        serves.into_iter().chain(tried).chain(stands_by).collect()
    }
}

/// Whether the trust that comes is of the same mode. It may be one with which nothing can
/// be loaded: the last key was lost.
fn check(trust: &Trust, before: &Trust) -> Result<(), HostError> {
    if trust.is_production() == before.is_production() {
        return Ok(());
    }
    let reason = "a running host cannot change between production and development".to_owned();
    Err(HostError::Option { option: "trust", reason })
}
