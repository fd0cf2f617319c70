//! Saving state outside of hand-overs: on the interval, on demand, at the end.

use super::control::Control;
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease, Retired},
    event::{EventKind, FailureReport},
    failure::Code,
    id::VersionId,
    pipeline,
    service::Serving,
};
use std::time::{Duration, Instant};

impl Control {
    /// Saves the last state of a version that serves no new calls.
    pub(super) fn save_retired(&mut self, retired: &Retired<Serving>) {
        if !retired.payload().manifest().state.snapshot {
            return;
        }
        let id = retired.payload().id().clone();
        let until = Instant::now() + self.options.shutdown_timeout;
        while !retired.is_drained() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let lease = retired.lease(Holder::new("last snapshot", monotonic_ns()));
        let bytes_max = self.options.state_bytes_max;
        self.save_lease(&id, lease, bytes_max);
    }

    fn save_lease(&mut self, id: &VersionId, lease: Lease<Serving>, bytes_max: usize) -> bool {
        let failure = match pipeline::snapshot_of(lease, bytes_max, &mut self.worker) {
            Err(error) => FailureReport::of(&error),
            Ok(envelope) => match pipeline::save(&self.store, &envelope) {
                Err(error) => FailureReport::of(&error),
                Ok(()) => {
                    let kind = EventKind::StateSaved {
                        schema: envelope.schema_version,
                        bytes: envelope.payload.len() as u64,
                    };
                    self.event(Some(id), kind);
                    return true;
                }
            },
        };
        self.event(Some(id), EventKind::StateProblem { failure });
        false
    }

    /// Saves the state of every plugin that has some. Returns how many.
    pub(super) fn save_all(&mut self) -> Result<usize, FailureReport> {
        let mut saved = 0;
        for entry in self.shared.directory.all() {
            let holder = Holder::new("snapshot", monotonic_ns());
            let Ok(lease) = entry.slot.lease(holder) else {
                continue;
            };
            if !lease.manifest().state.snapshot {
                continue;
            }
            let id = lease.id().clone();
            if !self.save_lease(&id, lease, self.options.state_bytes_max) {
                let message = format!("the state of {id} was not saved; the events say why");
                return Err(FailureReport::with_code(Code::StateStore, message));
            }
            saved += 1;
        }
        Ok(saved)
    }
}
