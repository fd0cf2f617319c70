//! Restoring a snapshot that an operator chose, and taking one in from a file.
//!
//! To restore is to deploy: a second instance of the version that serves, in a
//! library of its own, takes the snapshot over as a newer version would take the
//! state over. So it has the same gate, the same budget and the same way back
//! when a hook fails; and what the first instance had is saved, before and
//! behind the gate, so that it can be restored in its turn.

use super::{
    control::Control,
    deploy::Kept,
    save::holder,
    stored::{Imported, Restored},
    waiting::{Next, Prepared, RestoreDone, Restoring, Then},
};
use crate::{
    clock::monotonic_ns,
    dispatch::Lease,
    event::{EventKind, FailureReport, StageTimes},
    failure::{Code, Failure},
    id::{PluginName, VersionId},
    pipeline::{self, DeployError, Descent},
    service::Serving,
    state::{
        envelope::Envelope,
        store::{Found, StoreError},
    },
};

impl Control {
    /// Makes a snapshot the state of what serves; or, if nothing does, of what
    /// starts next.
    pub(super) fn restore_state(&mut self, name: &PluginName, snapshot: Option<u64>, done: RestoreDone) {
        let found = self.find_to_restore(name, snapshot);
        let live =
            self.shared.directory.find(name.as_str()).and_then(|entry| entry.slot.look(holder("restore")));
        let restored = match (found, live) {
            (Ok(found), Some(live)) => return self.restore_live(live, Restoring { found, done }),
            (Ok(found), None) => self.restore_at_start(name, found),
            (Err(failure), _) => Err(failure),
        };
        // Whoever asked may have gone away meanwhile.
        let _ = done.send(restored);
    }

    fn find_to_restore(&self, name: &PluginName, snapshot: Option<u64>) -> Result<Found, FailureReport> {
        self.has_left(name)?;
        self.no_trial_runs(name)?;
        self.nothing_waits(name)?;
        self.store.find(name.as_str(), snapshot).map_err(report)
    }

    /// Lets a second instance of what serves take over, with a snapshot's state.
    fn restore_live(&mut self, live: Lease<Serving>, restoring: Restoring) {
        let id = live.id().clone();
        match self.prepare_again(live) {
            Ok(prepared) => {
                let next = Next { id, prepared, then: Then::Restore(restoring) };
                self.take_up(next).expect("a restore is answered where it is refused");
            }
            Err(error) => drop(restoring.done.send(Err(self.not_restored(&id, &error)))),
        }
    }

    fn prepare_again(&mut self, live: Lease<Serving>) -> Result<Prepared, DeployError> {
        let id = live.id().clone();
        if !live.manifest().state.snapshot {
            return Err(DeployError::Model { from: "snapshot", to: "stateless" });
        }
        self.has_room()?;
        let begun = monotonic_ns();
        let candidate = pipeline::copy_of(&live, &self.stager)?;
        // The hand-over waits for all that others hold.
        drop(live);
        self.prepare(&id, candidate, StageTimes::default(), begun)
    }

    /// The same of an instance that no third version is in the way of.
    pub(super) fn restore_prepared(&mut self, id: &VersionId, prepared: Prepared, restoring: Restoring) {
        let Restoring { found, done } = restoring;
        let snapshot = found.snapshot.sequence();
        // Its rows are those of the version that serves.
        let restored = match self.publish(id, prepared, Some(found), (&Descent::none(), Vec::new())) {
            Ok(Some(kept)) => Ok(restored(id, snapshot, kept)),
            Ok(None) => {
                let message = format!("{id} ended while its state was to be restored");
                let failure = FailureReport::with_code(Code::CallNotActive, message);
                self.state_problem(id, failure.clone());
                Err(failure)
            }
            Err(error) => Err(self.not_restored(id, &error)),
        };
        let _ = done.send(restored);
    }

    /// Says that a snapshot did not become the state of what serves.
    pub(super) fn not_restored(&self, id: &VersionId, error: &DeployError) -> FailureReport {
        let failure = FailureReport::of(error);
        self.state_problem(id, failure.clone());
        failure
    }

    fn restore_at_start(&self, name: &PluginName, found: Found) -> Result<Restored, FailureReport> {
        let Found { snapshot, envelope } = found;
        let before = self.newest(name).map_err(report)?;
        let is_newest = before == Some(snapshot.sequence());
        let newest = if is_newest { snapshot.sequence() } else { self.make_newest(&envelope, before)? };
        let since = || format!("all that was written since {} ms after 1970", snapshot.taken_at_unix_ms());
        Ok(Restored {
            active: None,
            snapshot: snapshot.sequence(),
            from_schema: envelope.schema_version,
            to_schema: envelope.schema_version,
            state_bytes: envelope.payload.len() as u64,
            loss: if is_newest { String::new() } else { since() },
            newest: Some(newest),
            before: before.filter(|_| !is_newest),
        })
    }

    /// Saves what came from a file as the newest snapshot of its plugin.
    pub(super) fn import_state(&self, envelope: &Envelope) -> Result<Imported, FailureReport> {
        let plugin: PluginName = envelope
            .plugin
            .parse()
            .map_err(|error| FailureReport::with_code(Code::StateBadImport, format!("{error}")))?;
        let before = self.newest(&plugin).map_err(report)?;
        let snapshot = self.make_newest(envelope, before)?;
        Ok(Imported {
            plugin: envelope.plugin.clone(),
            snapshot,
            schema_version: envelope.schema_version,
            plugin_version: envelope.plugin_version.clone(),
            state_bytes: envelope.payload.len() as u64,
            before,
        })
    }

    fn newest(&self, name: &PluginName) -> Result<Option<u64>, StoreError> {
        Ok(self.store.list(name.as_str())?.first().map(|snapshot| snapshot.sequence()))
    }

    fn make_newest(&self, envelope: &Envelope, before: Option<u64>) -> Result<u64, FailureReport> {
        let saved = pipeline::save(&self.store, envelope).map_err(report)?;
        let snapshot = saved.snapshot.sequence();
        let (schema, bytes) = (envelope.schema_version, envelope.payload.len() as u64);
        let kind = EventKind::StateReplaced { snapshot, schema, bytes, before };
        self.shared.events.write(Some(envelope.plugin.clone()), None, kind);
        Ok(snapshot)
    }
}

fn restored(id: &VersionId, snapshot: u64, kept: Kept) -> Restored {
    let Kept { schemas: (from_schema, to_schema), bytes, loss, before, newest } = kept;
    let active = Some(id.clone());
    Restored { active, snapshot, from_schema, to_schema, state_bytes: bytes, loss, newest, before }
}

fn report(error: impl Failure) -> FailureReport {
    FailureReport::of(&error)
}
