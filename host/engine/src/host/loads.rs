//! Reading the durable tables of a plugin before a version is deployed or tried:
//! on a thread of its own, since it takes a second for a million rows, and for
//! ever where a disk hangs. The command loop serves the other plugins meanwhile.

use super::{
    control::Control,
    job::Job,
    waiting::{First, FirstWork},
};
use crate::{
    event::FailureReport,
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::DeployError,
    table_store::TableStoreError,
};
use std::sync::Arc;

impl Control {
    /// Whether the tables of a version's plugin are read.
    pub(super) fn tables_are_loaded(&self, id: &VersionId) -> bool {
        self.shared.directory.tables.is_loaded(&id.name)
    }

    /// Begins to read them, for a version that is to be deployed or tried then.
    fn load_tables(&mut self, id: &VersionId) -> Result<(), DeployError> {
        let (name, directory) = (id.name.clone(), Arc::clone(&self.shared.directory));
        let job = Job::start("replug-load", self.shared.nudger(), move || directory.tables.load(&name));
        let work = FirstWork::Load(job.map_err(DeployError::Thread)?);
        self.firsts.insert(id.name.clone(), First { id: id.clone(), work, trial: None });
        Ok(())
    }

    /// Begins what has to be done before a version is begun with; whether there is
    /// something. One step is taken after the other.
    pub(super) fn begin_first_work(&mut self, id: &VersionId) -> Result<bool, DeployError> {
        if !self.tables_are_loaded(id) {
            return self.load_tables(id).map(|()| true);
        }
        self.begin_rehearsal(id)
    }

    /// Goes on with the versions for which that is done.
    pub(super) fn end_first_work(&mut self) {
        let done: Vec<(PluginName, First)> =
            self.firsts.extract_if(.., |_, first| first.work.is_done()).collect();
        for (name, First { id, work, trial }) in done {
            // A choice that was made meanwhile may be of another version.
            let was_wanted = self.wants(&id);
            let ended = match work {
                FirstWork::Load(job) => self.end_load(&id, job),
                FirstWork::Rehearsal(rehearsing) => self.end_rehearsal(&id, *rehearsing),
            };
            let ended = ended.map_err(|error| match trial.is_some() {
                true => self.not_tried(&id, &error),
                false => self.not_deployed(&id, &error),
            });
            if let Some(trying) = trial {
                // Which version serves may be another one by now.
                match ended.clone().and_then(|()| self.find_for_trial(&name, &id.version)) {
                    Ok(id) => self.try_when_ready(&id, trying),
                    // Whoever asked may have gone away meanwhile.
                    Err(failure) => drop(trying.done.send(Err(failure))),
                }
            }
            let deployed = self.reconcile(&name);
            let reconciled = if was_wanted { ended.and(deployed) } else { deployed };
            self.answer_if_done(&name, reconciled);
        }
    }

    fn wants(&self, id: &VersionId) -> bool {
        let catalog = self.shared.catalog();
        let wanted = catalog.get(id.name.as_str()).and_then(|versions| versions.wanted());
        wanted.is_some_and(|wanted| wanted.id == *id)
    }

    fn end_load(
        &mut self,
        id: &VersionId,
        job: Job<Result<Vec<String>, TableStoreError>>,
    ) -> Result<(), DeployError> {
        for table in job.join().ok_or(DeployError::Panicked)?? {
            let report = FailureReport::with_code(Code::TablePartial, lacks_rows(&table));
            self.state_problem(id, report);
        }
        Ok(())
    }
}

fn lacks_rows(table: &str) -> String {
    format!(
        "table {table} lacks rows: it had just been made durable, and the process ended before its store was told all that was in memory"
    )
}
