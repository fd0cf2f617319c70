//! Saving state outside of hand-overs: on the interval, on demand, at the end.

use super::control::Control;
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease, Retired, SlotState},
    event::{EventKind, FailureReport},
    failure::Code,
    id::VersionId,
    load::{Hook, HookError, HookErrorKind},
    pipeline::{self, DEPLOYMENT, HAND_OVER, Party, Progress, Worker},
    service::{Entry, Serving},
    state::store::Saved,
};
use std::time::{Duration, Instant};

/// Who takes a lease, as of now.
pub(super) fn holder(label: &'static str) -> Holder {
    Holder::new(label, monotonic_ns())
}

/// The label of leases under which state is exported beside calls.
pub(super) const SNAPSHOT: &str = "snapshot";

impl Control {
    /// Saves the last state of a version that serves no new calls: frozen
    /// first, so that nothing of its own changes it afterwards. Calls may still
    /// run, if they were waited for in vain. Returns the hook that hangs, if one
    /// does.
    pub(super) fn save_last(&mut self, id: &VersionId, retired: &Retired<Serving>) -> Option<Hook> {
        if let Some(ends_at) = self.ends_at
            && !self.hurry(ends_at)
        {
            let message = format!("there was no time left to save the state of {id}");
            self.state_problem(id, FailureReport::with_code(Code::HostUncleanEnd, message));
            return None;
        }
        if let Some(hook) = still_runs(&retired.holders()) {
            let message = format!("{hook} of {id} was given up and still runs: its last state is not saved");
            self.state_problem(id, FailureReport::with_code(Code::HookTimeout, message));
            return Some(hook);
        }
        let in_flight = retired.in_flight();
        if !in_flight.is_none() {
            let message = format!(
                "{} calls and {} leases of {id} have not ended; what they change now is not saved",
                in_flight.stack, in_flight.leases
            );
            self.state_problem(id, FailureReport::with_code(Code::GateQuiesceTimeout, message));
        }
        let lease = retired.lease(holder("last snapshot"));
        let frozen = self.worker.run(&Progress::at(Party::Before, Hook::Freeze), move || freeze(&lease));
        if let Err(error) = frozen.map_err(HookError::from).and_then(|frozen| frozen) {
            self.state_problem(id, FailureReport::of(&error));
            if error.kind == HookErrorKind::TimedOut {
                // Its hooks run one at a time, and this one still does.
                return Some(Hook::Freeze);
            }
        }
        // A failure was reported as an event.
        let saved = self.save_lease(id, retired.lease(holder("last snapshot")));
        saved.is_err_and(|failure| failure.code == Code::HookTimeout.as_str()).then_some(Hook::Export)
    }

    /// Gives the hooks of a last snapshot no more time than a host that ends
    /// has; false if that is none.
    fn hurry(&mut self, ends_at: Instant) -> bool {
        let hooks = 2;
        let time = ends_at.saturating_duration_since(Instant::now()) / hooks;
        if time < self.options.unload.hook_timeout
            && let Ok(worker) = Worker::start(time)
        {
            self.worker = worker;
        }
        !time.is_zero()
    }

    /// Saves the state of every plugin that has some, also after one could not
    /// be saved. Returns how many.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn save_all(&mut self) -> Result<usize, FailureReport> {
        let (mut saved, mut first) = (0, None);
        for entry in self.shared.directory.all() {
            // Behind a gate state is being handed over, and saved by that.
            if !matches!(entry.slot.state(), SlotState::Live(_)) {
                continue;
            }
            let hangs_for = self.oldest_snapshot(&entry);
            let Some(lease) = entry.slot.look(holder(SNAPSHOT)) else {
                continue;
            };
            if !lease.manifest().state.snapshot {
                continue;
            }
            let id = lease.id().clone();
            let result = match hangs_for {
                Some(time) => Err(self.export_hangs(&id, time)),
                None => self.save_lease(&id, lease),
            };
            match result {
                Ok(()) => saved += 1,
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        first.map_or(Ok(saved), Err)
    }

    /// For how long an export that was given up has been running in the version
    /// that serves.
    pub(super) fn oldest_snapshot(&self, entry: &Entry) -> Option<Duration> {
        let now = monotonic_ns();
        let ages = entry.slot.holders().into_iter().filter(|held| held.label == SNAPSHOT);
        let oldest = ages.map(|held| Duration::from_nanos(now.saturating_sub(held.since))).max()?;
        (oldest >= self.options.unload.hook_timeout).then_some(oldest)
    }

    /// An export hangs: another one beside it would hang too. Said once.
    fn export_hangs(&mut self, id: &VersionId, time: Duration) -> FailureReport {
        let message =
            format!("export of {id} has not returned for {} ms: its state is not saved", time.as_millis());
        let failure = FailureReport::with_code(Code::HookTimeout, message);
        if self.hanging_exports.insert(id.clone()) {
            self.state_problem(id, failure.clone());
        }
        failure
    }

    fn save_lease(&mut self, id: &VersionId, lease: Lease<Serving>) -> Result<(), FailureReport> {
        match self.export_and_save(lease) {
            Ok(saved) => {
                self.hanging_exports.remove(id);
                self.shared.event(Some(id), saved);
                Ok(())
            }
            Err(failure) => {
                self.state_problem(id, failure.clone());
                Err(failure)
            }
        }
    }

    fn export_and_save(&mut self, lease: Lease<Serving>) -> Result<EventKind, FailureReport> {
        let exported = pipeline::snapshot_of(lease, self.options.state_bytes_max, &mut self.worker);
        let envelope = exported.map_err(|error| FailureReport::of(&error))?;
        let saved = pipeline::save_changed(&self.store, &envelope);
        let Saved { snapshot, is_new, .. } = saved.map_err(|error| FailureReport::of(&error))?;
        let (schema, bytes) = (envelope.schema_version, envelope.payload.len() as u64);
        Ok(EventKind::StateSaved { snapshot: snapshot.sequence(), is_new, schema, bytes })
    }

    pub(super) fn state_problem(&self, id: &VersionId, failure: FailureReport) {
        self.shared.event(Some(id), EventKind::StateProblem { failure });
    }
}

/// A hook that was given up and has not returned, as its lease tells: hooks of
/// an instance run one at a time.
fn still_runs(holders: &[Holder]) -> Option<Hook> {
    holders.iter().find_map(|holder| match holder.label {
        // It, or one of those that follow in the same job.
        HAND_OVER => Some(Hook::Freeze),
        DEPLOYMENT | SNAPSHOT => Some(Hook::Export),
        _ => None,
    })
}

fn freeze(lease: &Lease<Serving>) -> Result<(), HookError> {
    let frozen = lease.enter(|entered| entered.payload().hook(Hook::Freeze));
    frozen.unwrap_or_else(|refused| {
        Err(HookError { hook: Hook::Freeze, kind: HookErrorKind::Host, reason: refused.to_string() })
    })
}
