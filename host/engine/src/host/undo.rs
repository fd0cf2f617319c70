//! Leaving tables as they were before a version that was refused.
//!
//! That is written to the stores of tables, and so may wait for a disk: it has a
//! thread of its own, and the plugin's next deployment waits for that. Only where
//! no thread can be had does the command loop do it.

use super::{control::Control, job::Job};
use crate::{
    clock::monotonic_ns,
    dispatch::Holder,
    event::{EventKind, FailureReport},
    failure::Code,
    id::PluginName,
    service::Serving,
};
use std::sync::Arc;

impl Control {
    /// Has nothing count that a version wrote to its tables which never served.
    pub(super) fn take_back_writes(&mut self, refused: &Serving) {
        let (id, tables) = (refused.id().clone(), Arc::clone(refused.tables()));
        if tables.all().is_empty() {
            return;
        }
        let entry = self.shared.directory.entry(&id.name);
        let serving = entry.slot.look(Holder::new("tables", monotonic_ns()));
        let to = serving.map(|serving| Arc::clone(serving.tables()));
        let shared = Arc::clone(&self.shared);
        self.undo(&entry.name, move || {
            if let Err(problem) = tables.undo(to.as_deref()) {
                shared.event(Some(&id), EventKind::StateProblem { failure: FailureReport::of(&problem) });
            }
        });
    }

    /// Runs what leaves tables as they were.
    pub(super) fn undo(&mut self, name: &PluginName, undo: impl FnOnce() + Send + 'static) {
        match Job::start("replug-undo", self.shared.nudger(), undo) {
            Ok(job) => self.undone.entry(name.clone()).or_default().push(job),
            Err(error) => {
                let message = format!("no thread to take back what a refused version wrote: {error}");
                self.problem(Code::HostThread, message);
            }
        }
    }

    /// Goes on with what waited until tables were as they had been.
    pub(super) fn end_undone(&mut self) {
        let are_done = |jobs: &mut Vec<Job<()>>| jobs.iter().all(Job::is_done);
        let done: Vec<PluginName> =
            self.undone.extract_if(.., |_, jobs| are_done(jobs)).map(|(name, _)| name).collect();
        for name in done {
            let reconciled = self.reconcile(&name);
            if reconciled.is_err() || !self.waits(&name) {
                self.answer(&name, reconciled);
            }
        }
    }
}
