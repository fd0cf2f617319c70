//! Reading the durable tables of a plugin before a version is deployed or tried:
//! on a thread of its own, since it takes a second for a million rows, and for
//! ever where a disk hangs. The command loop serves the other plugins meanwhile.

use super::{control::Control, job::Job, waiting::Load};
use crate::{
    event::FailureReport,
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::DeployError,
};
use std::sync::Arc;

impl Control {
    /// Whether the tables of a version's plugin are read.
    pub(super) fn tables_are_loaded(&self, id: &VersionId) -> bool {
        self.shared.directory.tables.is_loaded(&id.name)
    }

    /// Begins to read them, for a version that is to be deployed then.
    pub(super) fn load_tables(&mut self, id: &VersionId) -> Result<&mut Load, DeployError> {
        let (name, directory) = (id.name.clone(), Arc::clone(&self.shared.directory));
        let job = Job::start("replug-load", self.shared.nudger(), move || directory.tables.load(&name));
        let load = Load { id: id.clone(), job: job.map_err(DeployError::Thread)?, trial: None };
        // None is there: one step is taken after the other.
        Ok(self.loads.entry(id.name.clone()).or_insert(load))
    }

    /// Goes on with the versions whose tables are read.
    pub(super) fn end_loads(&mut self) {
        let done: Vec<(PluginName, Load)> = self.loads.extract_if(.., |_, load| load.job.is_done()).collect();
        for (name, Load { id, job, trial }) in done {
            let loaded = match job.join() {
                Some(loaded) => loaded.map_err(DeployError::from),
                None => Err(DeployError::Panicked),
            };
            let loaded = match loaded {
                Ok(partial) => {
                    for table in partial {
                        let report = FailureReport::with_code(Code::TablePartial, lacks_rows(&table));
                        self.state_problem(&id, report);
                    }
                    Ok(())
                }
                Err(error) if trial.is_some() => Err(self.not_tried(&id, &error)),
                Err(error) => Err(self.not_deployed(&id, &error)),
            };
            if let Some(trying) = trial {
                // Which version serves may be another one by now.
                match loaded.clone().and_then(|()| self.find_for_trial(&name, &id.version)) {
                    Ok(id) => self.try_now(&id, trying),
                    // Whoever asked may have gone away meanwhile.
                    Err(failure) => drop(trying.done.send(Err(failure))),
                }
            }
            let deployed = self.reconcile(&name);
            let reconciled = loaded.and(deployed);
            self.answer_if_done(&name, reconciled);
        }
    }
}

fn lacks_rows(table: &str) -> String {
    format!(
        "table {table} lacks rows: it had just been made durable, and the process ended before its store was told all that was in memory"
    )
}
