//! What the host says of itself, counted from its events.

use replug_host::event::{EventKind, Events, Next};
use replug_tests::harness::PATIENCE;
use std::{
    collections::BTreeMap,
    thread::{self, JoinHandle},
};

/// What the host said of itself.
#[derive(Default)]
pub(crate) struct Seen {
    events: BTreeMap<&'static str, u64>,
    /// Versions that were replaced, and of these those with calls in flight.
    pub(crate) replaced: u64,
    pub(crate) replaced_in_use: u64,
    /// Events that need attention.
    pub(crate) troubles: u64,
}

impl Seen {
    pub(crate) fn count(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or_default()
    }

    /// Versions that calls could enter.
    pub(crate) fn served(&self) -> u64 {
        self.count("published") + self.count("trial_begun")
    }
}

/// Reads all events, until the host ends.
pub(crate) fn audit(mut events: Events) -> JoinHandle<Seen> {
    thread::spawn(move || {
        let mut seen = Seen::default();
        loop {
            let event = match events.next_within(PATIENCE) {
                Next::Event(event) => event,
                Next::Nothing => continue,
                Next::Lost(count) => {
                    seen.troubles += count;
                    continue;
                }
                Next::Ended => return seen,
            };
            *seen.events.entry(event.kind.name()).or_default() += 1;
            match &event.kind {
                EventKind::Published { from: Some(_), in_flight, .. }
                | EventKind::RolledBack { in_flight, .. } => {
                    seen.replaced += 1;
                    seen.replaced_in_use += u64::from(*in_flight > 0);
                }
                EventKind::DeployFailed { .. }
                | EventKind::Refused { .. }
                | EventKind::Resident { .. }
                | EventKind::StateProblem { .. }
                | EventKind::StuckCall { .. }
                | EventKind::HostProblem { .. } => {
                    eprintln!("{event:?}");
                    seen.troubles += 1;
                }
                _ => {}
            }
        }
    })
}
