//! Rehearsing a version before it is loaded into the host: in a child process, which a
//! thread of its own follows. The command loop serves the other plugins meanwhile.

use super::{
    control::Control,
    job::Job,
    save::{SNAPSHOT, holder},
    versions::Rehearsed,
    waiting::{First, FirstWork, Rehearsing},
};
use crate::{
    artifact::inspect::Manifest,
    dispatch::Lease,
    event::{EventKind, OtherAnswer, RehearsedCalls, RehearsedRows, RehearsedState, RehearsedStep},
    id::{PluginName, VersionId},
    pipeline::{self, DeployError},
    rehearse::{
        self, Differing, Library, Protection, RehearsalError, Replayed, Report, RowsWay, StateWay, Subject,
        Upgrade,
    },
    service::{KeptCall, Serving, TableOf},
    state::{
        chain::{self, Plan},
        envelope::Envelope,
    },
    table::SampleRow,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Rows of each table on which it is tried what will be done to all, and their bytes.
const SAMPLE_ROWS_MAX: usize = 1000;
const SAMPLE_BYTES_MAX: usize = 1024 * 1024;

/// Who looks at the version that serves.
const REPLAY: &str = "replay";

impl Control {
    /// How long a version's rehearsal took; none before it passed one.
    pub(super) fn rehearsed_us(&self, id: &VersionId) -> Option<u64> {
        self.shared.catalog().get(id.name.as_str())?.rehearsed_us(id)
    }

    /// Begins to rehearse a version, if that is asked for and was not done; whether it was
    /// begun.
    pub(super) fn begin_rehearsal(&mut self, id: &VersionId) -> Result<bool, DeployError> {
        let Some(rehearsal) = self.options.rehearsal.clone() else { return Ok(false) };
        if self.rehearsed_us(id).is_some() {
            return Ok(false);
        }
        // Gone: whoever wants it finds that out.
        let Some((candidate, arrival)) = self.take_candidate(id)? else { return Ok(false) };
        let against = {
            let catalog = self.shared.catalog();
            catalog.get(id.name.as_str()).and_then(|versions| versions.active()).map(|active| active.digest)
        };
        let upgrade = self.upgrade_to(&candidate.manifest, None);
        let (library, digest) = (Library::Ours(candidate.staged.copy.clone()), id.digest);
        let (folder, stop) = (self.rehearsals.clone(), Arc::<AtomicBool>::default());
        let (inside, turns) = (Arc::clone(&stop), Arc::clone(&self.turns));
        let job = Job::start("replug-rehearse", self.shared.nudger(), move || {
            let Some(_turn) = turns.take(&inside) else {
                return (Report::default(), Err(RehearsalError::Stopped));
            };
            rehearse::run(&rehearsal, Subject { library, digest, upgrade }, &folder, &inside)
        });
        let rehearsing = Box::new(Rehearsing {
            job: job.map_err(DeployError::Thread)?,
            candidate,
            arrival,
            against,
            stop,
        });
        let first = First { id: id.clone(), work: FirstWork::Rehearsal(rehearsing), trial: None };
        self.firsts.insert(id.name.clone(), first);
        Ok(true)
    }

    /// What a version would be upgraded from now, and with what. A state that is handed in
    /// takes the place of the one that serves.
    pub(super) fn upgrade_to(&mut self, new: &Manifest, state: Option<Envelope>) -> Upgrade {
        let mut absent = Vec::new();
        let (state, converter) = match state {
            Some(state) => (Some(state), None),
            None => self.state_to_rehearse(new, &mut absent),
        };
        let (calls, before) = self.calls_to_replay(new);
        Upgrade {
            before: before.or(converter),
            config: self.config_of(&new.name),
            state,
            rows: self.rows_to_rehearse(new),
            calls,
            bounds: self.options.bounds(),
            interfaces: self.options.wanted_interfaces(),
            absent,
        }
    }

    /// A rehearsal has ended.
    pub(super) fn end_rehearsal(
        &mut self,
        id: &VersionId,
        rehearsing: Rehearsing,
    ) -> Result<(), DeployError> {
        let Rehearsing { job, candidate, arrival, against, .. } = rehearsing;
        let (report, verdict) = job.join().ok_or(DeployError::Panicked)?;
        let absent = report.absent().map(|(name, why)| format!("{name}: {why}")).collect();
        let Report { steps, state, rows, replayed, total_us, .. } = report;
        let rows = rows.into_iter().map(|RowsWay { table, rows, converted, way_back }| RehearsedRows {
            table,
            rows,
            converted,
            way_back,
        });
        let steps = steps.iter().map(|done| RehearsedStep {
            step: done.step.as_str(),
            micros: done.measured.micros,
            memory_kib: done.measured.memory_kib,
            threads: done.measured.threads,
            descriptors: done.measured.descriptors,
        });
        let kind = EventKind::Rehearsed {
            passed: verdict.is_ok(),
            micros: total_us,
            steps: steps.collect(),
            state: state.as_ref().map(RehearsedState::from),
            rows: rows.collect(),
            replayed: replayed.map(told),
            absent,
        };
        self.shared.event(Some(id), kind);
        verdict?;
        if let Some(versions) = self.shared.catalog().get_mut(id.name.as_str()) {
            let state = candidate.manifest.state;
            let is_stateless = !state.snapshot && !state.tables;
            versions.is_rehearsed(id, Rehearsed { micros: total_us, against, is_stateless });
            versions.give_candidate(candidate, arrival);
        }
        Ok(())
    }

    /// Ends the rehearsal of a version that is not wanted any more: another one waits for it.
    pub(super) fn stop_unwanted_rehearsal(&self, name: &PluginName) {
        let Some(First { id, work: FirstWork::Rehearsal(rehearsing), trial: None }) = self.firsts.get(name)
        else {
            return;
        };
        let is_wanted = {
            let catalog = self.shared.catalog();
            let wanted = catalog.get(name.as_str()).and_then(|versions| versions.wanted());
            wanted.is_some_and(|wanted| wanted.id == *id)
        };
        if !is_wanted {
            // Relaxed: it looks again soon, whenever that is.
            rehearsing.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Ends all rehearsals, because the host ends.
    pub(super) fn stop_rehearsals(&self) {
        // Relaxed: as below.
        self.ends.store(true, Ordering::Relaxed);
        for first in self.firsts.values() {
            if let FirstWork::Rehearsal(rehearsing) = &first.work {
                // Relaxed: it looks again soon, whenever that is.
                rehearsing.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The calls that came last, and the library of the version that serves, on which they
    /// are made too.
    fn calls_to_replay(&self, new: &Manifest) -> (Vec<KeptCall>, Option<Library>) {
        let entry = self.shared.directory.entry(&new.name);
        let calls = entry.kept_calls();
        let serving = entry.slot.look(holder(REPLAY)).filter(|_| !calls.is_empty());
        // The rows that they are about are not there.
        let has_tables = |serving: &Serving| serving.manifest().state.tables || new.state.tables;
        match serving.filter(|serving| !has_tables(serving)) {
            Some(serving) => (calls, Some(Library::Ours(serving.loaded().copy()))),
            None => (Vec::new(), None),
        }
    }

    /// A copy of the state that the version would take over now, and the library that
    /// converts it if it is on its way down. Where a hand-over would take an older
    /// snapshot, that; where it would be refused, none: it is refused there, for its own
    /// reason.
    fn state_to_rehearse(
        &mut self,
        new: &Manifest,
        absent: &mut Vec<Protection>,
    ) -> (Option<Envelope>, Option<Library>) {
        if !new.state.snapshot {
            return (None, None);
        }
        let (name, to) = (new.name.clone(), new.schema_version);
        let entry = self.shared.directory.entry(&name);
        // An export that hangs is not begun once more beside itself.
        let hangs = self.oldest_snapshot(&entry).is_some();
        let serving = entry.slot.look(holder(SNAPSHOT)).filter(|_| !hangs);
        let serving = serving.filter(|serving| serving.manifest().state.snapshot);
        let steps = serving.as_ref().map_or(&[][..], |serving| serving.steps());
        let from = serving.as_ref().map(|serving| serving.manifest().schema_version);
        let leads_down = from.is_some_and(|from| {
            let request = chain::Request {
                from,
                to,
                steps,
                policy: self.policy().migrate,
                has_older_snapshot: false,
                allow_loss: false,
            };
            from > to && matches!(chain::plan(&request), Ok(Plan::Steps(_)))
        });
        let library =
            serving.as_ref().filter(|_| leads_down).map(|serving| Library::Ours(serving.loaded().copy()));
        let is_of_use = from.is_some_and(|from| from <= to || leads_down);
        if let Some(serving) = serving.filter(|_| is_of_use) {
            let state = self.state_of(serving).map_err(|why| absent.push(why));
            return (state.ok(), library);
        }
        let newest = match from {
            None => self.store.latest(name.as_str()),
            Some(_) => self.store.latest_of_schema(name.as_str(), to),
        };
        let newest = newest.ok().and_then(|lookup| lookup.found).map(|found| found.envelope);
        let newest = match newest {
            // None serves that could convert it.
            Some(newest) if newest.schema_version > to => {
                let older = self.store.latest_of_schema(name.as_str(), to);
                older.ok().and_then(|lookup| lookup.found).map(|found| found.envelope)
            }
            newest => newest,
        };
        (newest, None)
    }

    /// Some rows of the plugin's tables.
    fn rows_to_rehearse(&self, new: &Manifest) -> Vec<(String, Vec<SampleRow>)> {
        if !new.state.tables {
            return Vec::new();
        }
        let tables = self.shared.directory.tables.of(&new.name);
        let sample = |TableOf { table, .. }: &TableOf| {
            (table.name().to_owned(), table.sample(SAMPLE_ROWS_MAX, SAMPLE_BYTES_MAX))
        };
        tables.iter().map(sample).collect()
    }

    /// The state of what serves, beside its calls; or why it is missing. The hand-over says
    /// so, too, with what follows from it.
    fn state_of(&mut self, serving: Lease<Serving>) -> Result<Envelope, Protection> {
        let id = serving.id().clone();
        let state = pipeline::snapshot_of(serving, self.options.state_bytes_max, &mut self.worker);
        state.map_err(|error| Protection {
            name: "the state".to_owned(),
            absent: Some(format!("{id}, which serves, did not give it: {error}")),
        })
    }
}

impl From<&StateWay> for RehearsedState {
    fn from(way: &StateWay) -> Self {
        let StateWay { from_schema, to_schema, bytes_before, bytes_after, way_back } = way;
        RehearsedState {
            from_schema: *from_schema,
            to_schema: *to_schema,
            bytes_before: *bytes_before,
            bytes_after: *bytes_after,
            way_back: way_back.to_string(),
        }
    }
}

fn told(replayed: Replayed) -> RehearsedCalls {
    let Replayed { calls, left_out, differ, differing } = replayed;
    let other = |Differing { method, body, before, now }| OtherAnswer { method, body, before, now };
    RehearsedCalls { calls, left_out, differ, differing: differing.into_iter().map(other).collect() }
}
