//! Leaving tables as they were before a version that was refused.
//!
//! That is written to the stores of tables, and so may wait for a disk: it has a
//! thread of its own, and the plugin's next deployment waits for that. Where no
//! thread can be had it is begun later.

use super::{control::Control, job::Job, undoing::Undoing};
use crate::{
    clock::monotonic_ns,
    dispatch::Holder,
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    service::Serving,
    table::TableError,
};
use std::{io, sync::Arc};

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
        self.undo_of(&id, move || {
            let undone = tables.undo(to.as_deref());
            // Also where nothing was left to be undone: its commit may not have been taken
            // back, or not on the disk yet.
            undone.and(tables.wait_for_records())
        });
    }

    /// Runs what takes back what a version wrote, and says if it cannot.
    pub(super) fn undo_of(
        &mut self,
        id: &VersionId,
        undo: impl FnOnce() -> Result<(), TableError> + Send + 'static,
    ) {
        let (of, shared) = (id.clone(), Arc::clone(&self.shared));
        self.undo(&id.name, move || {
            let undone = undo();
            if let Err(problem) = &undone {
                shared.event(Some(&of), EventKind::StateProblem { failure: FailureReport::of(problem) });
            }
            undone.is_ok()
        });
    }

    /// Runs what leaves tables as they were, and says whether they are then.
    pub(super) fn undo(&mut self, name: &PluginName, undo: impl FnOnce() -> bool + Send + 'static) {
        self.undone.entry(name.clone()).or_default().add(Box::new(undo));
        if let Err(error) = self.begin_undoing(name) {
            let message = format!("no thread yet to take back what a version wrote to its tables: {error}");
            self.problem(Code::HostThread, message);
        }
    }

    fn begin_undoing(&mut self, name: &PluginName) -> io::Result<()> {
        let Some(undoing) = self.undone.get_mut(name) else { return Ok(()) };
        undoing.begin(|undo| Job::start("replug-undo", self.shared.nudger(), undo))
    }

    /// Goes on with what waited until the tables of a plugin that went back knew.
    pub(super) fn end_ways_back_told(&mut self) {
        let ended = std::mem::take(&mut self.shared.ways_back().ended);
        for name in ended {
            let reconciled = self.reconcile(&name);
            self.answer_if_done(&name, reconciled);
        }
    }

    /// Goes on with what waited until tables were as they had been.
    pub(super) fn end_undone(&mut self) {
        let names: Vec<PluginName> = self.undone.keys().cloned().collect();
        for name in names {
            // That there is no thread was said.
            let _ = self.begin_undoing(&name);
        }
        let done: Vec<(PluginName, Undoing)> =
            self.undone.extract_if(.., |_, undoing| undoing.is_done()).collect();
        for (name, undoing) in done {
            match undoing.end() {
                Some(true) => self.settle_choice(&name),
                // What is on the disk of the tables is open, and so is the choice: until
                // another one is carried out, or the next start.
                not_undone => {
                    self.shared.of_choice(&name, |versions| versions.standing().keep_doubt());
                    if not_undone.is_none() {
                        let message = format!("the tables of {name} may not be as they were: that panicked");
                        self.problem(Code::HostThread, message);
                    }
                }
            }
            let reconciled = self.reconcile(&name);
            self.answer_if_done(&name, reconciled);
        }
    }
}
