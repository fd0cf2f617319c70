//! Committing the tables of the version that serves, and the version that waits
//! for that.
//!
//! A commit is written to the stores of tables, and so may wait for a disk: it has
//! a thread of its own. Meanwhile nothing else is begun with the plugin, and
//! nobody can go back; the other plugins are served. When a commit is due is not
//! decided here.

use super::{
    control::Control,
    job::Job,
    waiting::{Committing, Next, Restoring, Then, Trying},
};
use crate::{
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{self, DeployError},
    service::OpenTables,
};
use std::sync::Arc;

impl Control {
    /// Begins to commit the tables of the version that serves.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(super) fn begin_commit(
        &mut self,
        id: &VersionId,
        tables: &Arc<OpenTables>,
    ) -> Result<(), DeployError> {
        self.shared.sweeps().stop(&id.name);
        let tables = Arc::clone(tables);
        let job = Job::start("replug-commit", self.shared.nudger(), move || tables.commit());
        let job = job.map_err(DeployError::Thread)?;
        self.commits.insert(id.name.clone(), Committing { id: id.clone(), job, next: None });
        Ok(())
    }

    /// Goes on with what is committed, and with what waited for that.
    pub(super) fn end_commits(&mut self) {
        let done: Vec<(PluginName, Committing)> =
            self.commits.extract_if(.., |_, committing| committing.job.is_done()).collect();
        for (name, Committing { id, job, next }) in done {
            let committed = match job.join() {
                Some(committed) => committed.map_err(|error| FailureReport::of(&error)),
                None => Err(FailureReport::of(&DeployError::Panicked)),
            };
            self.note_commit(&id, committed);
            let mut taken_up = Ok(());
            if let Some(next) = next {
                let id = next.id.clone();
                taken_up = self.take_up(next).map_err(|error| self.not_deployed(&id, &error));
            }
            // Sweeps come after it.
            self.settle_tables_of(&self.shared.directory.entry(&name));
            let reconciled = self.reconcile(&name);
            self.answer_if_done(&name, taken_up.and(reconciled));
        }
    }

    fn note_commit(&mut self, id: &VersionId, committed: Result<(), FailureReport>) {
        let before = self.committed.insert(id.name.clone(), id.clone());
        match committed {
            Ok(()) => self.shared.event(Some(id), EventKind::TablesCommitted),
            // It is said once: a store that failed stays so.
            Err(failure) if before.as_ref() != Some(id) => self.state_problem(id, failure),
            Err(_) => {}
        }
    }

    /// Goes on with a version that is prepared, or has it wait until the one that
    /// serves is committed.
    ///
    /// # Errors
    /// It is not deployed. Who wants it for anything else is answered here.
    pub(super) fn take_up(&mut self, next: Next) -> Result<(), DeployError> {
        let Next { id, prepared, then } = next;
        let tables = Arc::clone(prepared.version.payload().tables());
        let may_go_on = self.settle_for_next(&prepared.entry, &tables).and_then(|is_settled| {
            // Nothing is given up for a trial of such a version, which is refused.
            let is_to_serve = is_settled && !matches!(then, Then::Try(_));
            if is_to_serve && pipeline::is_one_way(prepared.version.payload()) {
                self.leave_alone(&prepared.entry)?;
            }
            Ok(is_settled)
        });
        match (may_go_on, then) {
            (Ok(true), Then::Deploy) => self.bring_in(&id, prepared),
            (Ok(true), Then::Try(trying)) => {
                self.try_prepared(&id, prepared, trying);
                Ok(())
            }
            (Ok(true), Then::Restore(restoring)) => {
                self.restore_prepared(&id, prepared, restoring);
                Ok(())
            }
            (Ok(false), then) => {
                if let Some(committing) = self.commits.get_mut(&id.name) {
                    committing.next = Some(Next { id, prepared, then });
                }
                Ok(())
            }
            (Err(error), then) => {
                self.unload(prepared.version.retire(), None);
                self.refuse_next(&id, then, error)
            }
        }
    }

    fn refuse_next(&mut self, id: &VersionId, then: Then, error: DeployError) -> Result<(), DeployError> {
        // Whoever asked may have gone away meanwhile.
        match then {
            Then::Deploy => return Err(error),
            Then::Try(Trying { done, .. }) => drop(done.send(Err(self.not_tried(id, &error)))),
            Then::Restore(Restoring { done, .. }) => drop(done.send(Err(self.not_restored(id, &error)))),
        }
        Ok(())
    }

    /// Gives up the version that waits for a commit, which goes on: because
    /// something else is wanted, or the host ends.
    pub(super) fn give_up_next(&mut self, name: &PluginName) {
        let Some(next) = self.commits.get_mut(name).and_then(|committing| committing.next.take()) else {
            return;
        };
        let Next { id, prepared, then } = next;
        self.unload(prepared.version.retire(), None);
        let failure = || {
            let message = format!("another version of {name} was chosen before {id} could be let in");
            FailureReport::with_code(Code::DeploySuperseded, message)
        };
        match then {
            Then::Deploy => {}
            Then::Try(Trying { done, .. }) => drop(done.send(Err(failure()))),
            Then::Restore(Restoring { done, .. }) => drop(done.send(Err(failure()))),
        }
    }

    /// Whether a version waits for a commit.
    pub(super) fn waits_for_commit(&self, name: &PluginName) -> bool {
        self.commits.get(name).is_some_and(|committing| committing.next.is_some())
    }
}
