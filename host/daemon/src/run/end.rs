//! The end of a host, and whether it was in order: nothing that should have
//! been saved was lost, and all code of plugins has returned.

use crate::problem::Problem;
use replug_host::{
    Host, UnloadingStatus,
    event::{EventKind, Next},
    failure::Code,
};
use std::time::Duration;

/// Drains, saves, unloads; an error says what of it did not come to its end.
/// Waits for at most the shutdown timeout.
pub(super) fn end(host: &Host) -> Result<(), Problem> {
    let mut events = host.events();
    host.shutdown()?;
    let mut amiss = Vec::new();
    let mut has_stopped = false;
    loop {
        match events.next_within(Duration::ZERO) {
            Next::Event(event) => match &event.kind {
                EventKind::StateProblem { failure } => amiss.push(failure.to_string()),
                EventKind::Stopped => has_stopped = true,
                _ => {}
            },
            Next::Lost(_) => {}
            Next::Nothing | Next::Ended => break,
        }
    }
    if !has_stopped {
        amiss.push("the thread that owns the plugins died; its panic is in the log".to_owned());
    }
    for plugin in host.status().plugins {
        amiss.extend(plugin.unloading.iter().filter_map(still_runs));
    }
    if amiss.is_empty() { Ok(()) } else { Err(unclean(amiss)) }
}

/// The host has ended, but not in order.
pub(super) fn unclean(amiss: Vec<String>) -> Problem {
    Problem::new(Code::HostUncleanEnd, "the host has ended, but not in order").because(amiss)
}

/// A library that merely stays mapped loses nothing at the end of its process;
/// code that has not returned may.
fn still_runs(unloading: &UnloadingStatus) -> Option<String> {
    let UnloadingStatus { id, stage, in_flight, leases, .. } = unloading;
    match stage.as_str() {
        "draining" => Some(format!("{id}: {in_flight} calls and {} leases have not ended", leases.len())),
        "hanging" | "stopping" | "dropping" => Some(format!("{id}: its hooks have not returned")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merely_mapped_is_no_unclean_end() {
        let at = |stage: &str| UnloadingStatus {
            id: "a@1.0.0+00000000".to_owned(),
            stage: stage.to_owned(),
            since_us: 1,
            in_flight: 2,
            leases: Vec::new(),
            pins: Vec::new(),
        };
        assert!(still_runs(&at("draining")).is_some_and(|text| text.contains("2 calls")));
        assert!(still_runs(&at("stopping")).is_some());
        assert!(still_runs(&at("hanging")).is_some());
        assert_eq!(still_runs(&at("closing")), None);
    }
}
