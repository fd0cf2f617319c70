//! The log: lines for a terminal, JSON otherwise; every event is one of them.

use replug_host::{
    Host,
    event::{Event, EventKind, Events, Next},
};
use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

/// How long the thread waits for an event before it waits again.
const WAIT: Duration = Duration::from_secs(60);

/// Starts the log of the process, on standard error.
pub(super) fn start(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
}

/// Writes the events of a host to the log, from the first one to its end.
pub(super) fn follow(host: &Host) -> io::Result<()> {
    let events = host.events_since(1);
    thread::Builder::new().name("replug-log".to_owned()).spawn(move || write_all(events))?;
    Ok(())
}

fn write_all(mut events: Events) {
    loop {
        match events.next_within(WAIT) {
            Next::Event(event) => write(&event),
            Next::Lost(count) => tracing::warn!(count, "events were lost to the log"),
            Next::Nothing => {}
            Next::Ended => return,
        }
    }
}

fn write(event: &Event) {
    let plugin = event.plugin.as_deref();
    let version = event.version.as_deref();
    let name = event.kind.name();
    match &event.kind {
        EventKind::Refused { failure, .. }
        | EventKind::DeployFailed { failure, .. }
        | EventKind::HostProblem { failure }
        | EventKind::StateProblem { failure } => {
            let (code, blame, next) = (failure.code, failure.blame, failure.next);
            tracing::warn!(event = name, plugin, version, code, blame, next, "{}", failure.message);
        }
        kind => {
            let details = serde_json::to_string(kind).unwrap_or_default();
            match kind {
                EventKind::Resident { .. } | EventKind::StuckCall { .. } | EventKind::TableLoss { .. } => {
                    tracing::warn!(event = name, plugin, version, details, "{name}");
                }
                _ => tracing::info!(event = name, plugin, version, details, "{name}"),
            }
        }
    }
}
