//! When the tables of a plugin are committed, and who sweeps them.
//!
//! A version's schemas are committed when the version before can serve no more:
//! no probation runs, no trial, and its last call has returned. Until then each
//! row that is written can be read by both. Rows of earlier schemas are swept
//! from then on.
//!
//! A version that the process ended with before it was committed is on probation
//! anew: its images must outlive a crash that it may have caused itself.
//!
//! What is decided here is written by [`commits`](super::commits): no disk is
//! waited for.

use super::{
    control::Control,
    shared::Shared,
    sweeps::{SweepKind, TableSweep},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease},
    id::{PluginName, VersionId},
    pipeline::{self, DeployError, UnloadStage},
    service::{Entry, OpenTables, Serving},
    table::Record,
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long a deployment waits for the version before the one that serves to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Control {
    /// Commits what can be committed, and starts the sweeps that are due.
    pub(super) fn settle_tables(&mut self) {
        if self.ends_at.is_some() {
            return;
        }
        for entry in self.shared.directory.all() {
            self.settle_tables_of(&entry);
        }
    }

    /// The same for one plugin.
    pub(super) fn settle_tables_of(&mut self, entry: &Arc<Entry>) {
        let name = &entry.name;
        let Some(serving) = entry.slot.look(Holder::new("tables", monotonic_ns())) else {
            return;
        };
        let tables = serving.tables();
        // Nobody goes back meanwhile.
        let _change = entry.change();
        let has =
            |what: fn(&Record) -> bool| tables.all().iter().any(|open| what(&open.view().table().record()));
        let is_partial = has(|record| record.partial);
        let is_on_probation = self.commit_at.get(name).is_some_and(|at| Instant::now() < *at);
        let may_go_back = is_on_probation || self.may_go_back(name, serving.id());
        let is_wanted = serving.manifest().state.tables && !self.descends(name);
        if !is_wanted || (may_go_back && !is_partial) {
            return;
        }
        // That the version before was swept says nothing of this one.
        let of_another = self.shared.sweeps().get(name).is_some_and(|sweep| sweep.version() != serving.id());
        if of_another {
            self.shared.sweeps().stop(name);
        }
        if may_go_back {
            // Rows that a store was promised do not wait for a commit.
            return self.sweep(entry, &serving, SweepKind::Tell, true);
        }
        self.commit_at.remove(name);
        let is_new = self.committed.get(name) != Some(serving.id());
        if is_new || !tables.is_committed() {
            // A store that has failed does not take it, which was said.
            if (is_new || tables.are_sound().is_ok())
                && let Err(error) = self.begin_commit(serving.id(), tables)
            {
                tracing::warn!(plugin = %name, %error, "the tables are committed later");
            }
            return;
        }
        let has_void_rows = has(|record| !record.voids.is_empty());
        self.sweep(entry, &serving, SweepKind::Convert, has_void_rows || is_partial);
    }

    /// Starts a sweep for what serves, if none is under way, and none has ended but
    /// for what has come since.
    fn sweep(&self, entry: &Arc<Entry>, serving: &Lease<Serving>, kind: SweepKind, has_work: bool) {
        let mut sweeps = self.shared.sweeps();
        let before = sweeps.get(&entry.name);
        if before.is_some_and(|before| !before.is_due(has_work, Instant::now())) {
            return;
        }
        let Shared { events, sweep_pauses, .. } = &*self.shared;
        let sweep = TableSweep::start(events, sweep_pauses, entry, serving, kind, before);
        sweeps.insert(&entry.name, sweep);
    }

    /// Notes when the tables of a version that has just begun to serve may be
    /// committed, other things being equal. With a version before it that is up
    /// to that one; `alone`, it has its probation if there is a way back at all.
    pub(super) fn begin_probation(&mut self, name: &PluginName, serving: &OpenTables, alone: bool) {
        if alone && serving.has_way_back() {
            self.commit_at.insert(name.clone(), Instant::now() + self.options.probation);
        } else {
            self.commit_at.remove(name);
        }
    }

    /// Sees to it that the tables of the version that serves are committed before a
    /// third version uses them: what is kept ready behind it is given up, because
    /// rows have an image in one schema only, and the third version leaves those
    /// that the second one needs. One of the committed schemas is no third one.
    /// Returns whether they are; if not, they are being committed.
    pub(super) fn settle_for_next(
        &mut self,
        entry: &Arc<Entry>,
        next: &OpenTables,
    ) -> Result<bool, DeployError> {
        // Before anything is given up for it.
        pipeline::reads_all_rows(next)?;
        let Some(serving) = entry.slot.look(Holder::new("tables", monotonic_ns())) else {
            return Ok(true);
        };
        if !serving.manifest().state.tables || serving.tables().is_committed_for(next) {
            return Ok(true);
        }
        serving.tables().are_sound().map_err(DeployError::Unsound)?;
        self.end_ways_back(entry, serving.id())?;
        self.commit_at.remove(&entry.name);
        self.begin_commit(serving.id(), serving.tables())?;
        Ok(false)
    }

    /// Sees to it that no version but the one that serves uses the tables, before
    /// one is let in that writes rows which no other can read. What is kept ready
    /// is given up; calls on older versions are waited for, but not long.
    pub(super) fn leave_alone(&mut self, entry: &Arc<Entry>) -> Result<(), DeployError> {
        let Some(serving) = entry.slot.look(Holder::new("tables", monotonic_ns())) else {
            return Ok(());
        };
        self.end_ways_back(entry, serving.id())
    }

    fn end_ways_back(&mut self, entry: &Arc<Entry>, serving: &VersionId) -> Result<(), DeployError> {
        let left = {
            let _change = entry.change();
            self.stand_by(&entry.name, None, false)
        };
        for left in left {
            self.unload(left, None);
        }
        let ends_at = Instant::now() + LEAVE_WITHIN;
        while self.may_go_back(&entry.name, serving) {
            if Instant::now() > ends_at {
                return Err(DeployError::TablesInUse);
            }
            // Another thread ends the version; nothing tells when it has.
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether another version than the one that serves could read or write the
    /// tables: it is kept ready, is tried, or has calls in flight.
    fn may_go_back(&self, name: &PluginName, serving: &VersionId) -> bool {
        let is_tried =
            self.shared.catalog().get(name.as_str()).is_some_and(|versions| versions.trial().is_some());
        let is_ready = self.shared.standby().contains_key(name);
        let leaves = self.shared.unloads().iter().any(|unloading| {
            let runs = matches!(
                unloading.status().stage,
                UnloadStage::Hanging
                    | UnloadStage::Draining
                    | UnloadStage::Stopping
                    | UnloadStage::Dropping
                    | UnloadStage::Releasing
            );
            runs && unloading.id.name == *name && unloading.id != *serving
        });
        let returns =
            self.shared.returned().iter().any(|returned| returned.retired.payload().id().name == *name);
        is_tried || is_ready || leaves || returns || self.is_leaving(name)
    }
}
