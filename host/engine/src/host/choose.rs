//! An operator's choice of a version.

use super::{
    choices::{Before, TableCommit},
    control::Control,
    shared::Shared,
    versions::Versions,
    waiting::Done,
};
use crate::{
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{DeployError, Reach},
    service::{Serving, TableOf},
};
use semver::Version;

impl Control {
    /// Makes `version` the one that serves, or the highest again. A choice that
    /// cannot be had is not kept: the one before stands.
    pub(super) fn activate(&mut self, name: &PluginName, version: Option<Version>, done: Done) {
        let is_free = self.has_left(name).and_then(|()| match version {
            Some(_) => self.no_trial_runs(name),
            None => Ok(()),
        });
        if let Err(failure) = is_free.and_then(|()| self.choose(name, version)) {
            // Whoever asked may have gone away meanwhile.
            return drop(done.send(Err(failure)));
        }
        if let Some(done) = self.wait_no_longer(name) {
            let message = format!("another choice for {name} was made before this one was carried out");
            let _ = done.send(Err(FailureReport::with_code(Code::DeploySuperseded, message)));
        }
        self.asked.insert(name.clone(), done);
        let reconciled = self.reconcile(name);
        self.answer_if_done(name, reconciled);
    }

    /// Makes what is wanted of these plugins what serves, or begins to. A failure is an
    /// event, and the answer to a choice that waited.
    pub(super) fn reconcile_all(&mut self, names: Vec<PluginName>) {
        for name in names {
            let reconciled = self.reconcile(&name);
            if reconciled.is_err() || !self.waits(&name) {
                self.answer(&name, reconciled);
            }
        }
    }

    /// Tells whoever chose what came of it, unless that is still open. What is done to
    /// tables once the version serves is not waited for, unless the choice cannot be kept
    /// before.
    pub(super) fn answer_if_done(&mut self, name: &PluginName, reconciled: Result<(), FailureReport>) {
        let is_open = || self.waits(name) && (!self.serves_what_is_wanted(name) || self.is_in_doubt(name));
        if reconciled.is_err() || !is_open() {
            self.answer(name, reconciled);
        }
    }

    fn serves_what_is_wanted(&self, name: &PluginName) -> bool {
        self.shared.catalog().get(name.as_str()).is_some_and(|versions| {
            versions.active().is_some() && versions.active() == versions.wanted().map(|wanted| &wanted.id)
        })
    }

    /// Tells whoever chose what serves what came of it.
    pub(super) fn answer(&mut self, name: &PluginName, reconciled: Result<(), FailureReport>) {
        let Some(done) = self.asked.remove(name) else { return };
        let active = self.chosen(name, reconciled);
        let kept = self.shared.keep_choices();
        let _ = done.send(active.and_then(|id| kept.map(|()| id)));
    }

    fn chosen(
        &mut self,
        name: &PluginName,
        reconciled: Result<(), FailureReport>,
    ) -> Result<VersionId, FailureReport> {
        if let Err(failure) = reconciled {
            self.shared.of_choice(name, Versions::withdraw_choice);
            // One that was refused at the gate is on the disk, and what comes next
            // takes its time. That it cannot be kept is told at the end.
            let _ = self.shared.keep_choices();
            // What is wanted now may be something else again; its failure would
            // be an event.
            let _ = self.reconcile(name);
            return Err(failure);
        }
        if self.is_in_doubt(name) {
            self.shared.of_choice(name, Versions::withdraw_choice);
            return Err(FailureReport::of(&DeployError::InDoubt));
        }
        self.shared.of_choice(name, |versions| versions.standing().release());
        let active = self.shared.catalog().get(name.as_str()).and_then(|versions| versions.active().cloned());
        active.ok_or_else(|| unknown(format!("no version of {name} can be activated")))
    }

    /// Nothing is left of what a refused version did to tables: what is on the disk of
    /// the choice of it goes, too.
    pub(super) fn settle_choice(&mut self, name: &PluginName) {
        if self.shared.of_choice(name, |versions| versions.standing().settle()) {
            self.keep_choices();
        }
    }

    fn serves(&self, name: &PluginName) -> bool {
        self.shared.catalog().get(name.as_str()).is_some_and(|versions| versions.active().is_some())
    }

    fn is_in_doubt(&self, name: &PluginName) -> bool {
        self.shared.of_choice(name, |versions| versions.standing().is_in_doubt())
    }

    /// Keeps the choice of a version whose tables are committed behind the gate, beside
    /// the one that stands: a disk is not waited for while callers wait. Without a
    /// version that serves there is no gate.
    pub(super) fn keep_choice_for_gate(&self, reach: &Reach<'_>, new: &Serving) -> Result<(), DeployError> {
        let name = &new.id().name;
        if !self.serves(name) || !reach.commits_at_gate(new) {
            return Ok(());
        }
        if self.is_in_doubt(name) {
            return Err(DeployError::InDoubt);
        }
        let commits = new.tables().uncommitted();
        let commits = commits
            .into_iter()
            .map(|(table, schema, generation)| (table, TableCommit { schema, generation }))
            .collect();
        self.shared.of_choice(name, |versions| versions.doubt_choice(commits));
        self.shared.keep_choices().map_err(|failure| {
            self.shared.of_choice(name, |versions| versions.standing().settle());
            DeployError::Unkept(failure.message)
        })
    }

    /// Finds out which choice stands where a host before has left that open, once the
    /// plugin's tables are read. Returns whether that was found out now.
    pub(super) fn decide_choice(&self, name: &PluginName) -> bool {
        let found = self.shared.of_choice(name, |versions| versions.standing().found_in_doubt().cloned());
        let Some(Before { commits, .. }) = found else { return false };
        let tables = self.shared.directory.tables.of(name);
        let stands = tables.iter().any(|TableOf { table, .. }| {
            let due = commits.get(table.name());
            due.is_some_and(|due| table.record().is_committed(due.schema, due.generation))
        });
        let before = self.shared.of_choice(name, |versions| {
            let chosen = versions.choice().chosen;
            versions.decide_choice(stands).map(|before| (chosen, before.chosen))
        });
        let Some((chosen, before)) = before else { return false };
        let [chosen, before] = [chosen, before].map(|version| version.map(|version| version.to_string()));
        let kind = EventKind::ChoiceDecided { chosen, before, stands };
        self.shared.events.write(Some(name.to_string()), None, kind);
        true
    }

    /// Notes the choice, and what it takes the place of.
    fn choose(&self, name: &PluginName, version: Option<Version>) -> Result<(), FailureReport> {
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
        // In one go: a way back in between would find a choice that nobody asked for.
        versions.standing().hold(before);
        Ok(())
    }
}

impl Shared {
    /// What serves is the choice of the plugin's version, and nothing is in doubt.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(super) fn carry_out_choice(&self, name: &PluginName) -> Result<(), FailureReport> {
        self.of_choice(name, |versions| versions.standing().take());
        self.keep_choices()
    }

    /// Does something to the choice of a plugin's version, if the plugin is known.
    pub(super) fn of_choice<T: Default>(
        &self,
        name: &PluginName,
        what: impl FnOnce(&mut Versions) -> T,
    ) -> T {
        self.catalog().get_mut(name.as_str()).map(what).unwrap_or_default()
    }
}

pub(super) fn unknown(message: String) -> FailureReport {
    FailureReport::with_code(Code::DeployUnknownVersion, message)
}
