//! What happened, in order: a bounded log that any number of readers follow.
//!
//! The list of kinds is closed; names and fields are what operators filter and
//! alert on. An event is written once, numbered, and never changed. A slow
//! reader loses the oldest events and is told how many; it never holds the host
//! up.
//!
//! long: most of it is the list of kinds, which is closed and so stands together.

use crate::failure::{Code, Failure};
use serde::{Serialize, Serializer};
use std::fmt;

mod rehearsed;
mod log;

pub(crate) use log::EventLog;
pub use log::{EVENTS_KEPT_MAX, Events, Next};
pub use rehearsed::{OtherAnswer, RehearsedCalls, RehearsedRows, RehearsedState, RehearsedStep};

/// Version of the events' form.
pub const SCHEMA_VERSION: u32 = 1;

/// Something that happened in a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Version of the events' form, [`SCHEMA_VERSION`]; it is raised when a
    /// field changes its meaning, and not when one is added.
    pub schema: u32,
    /// Number of the event in its host, from 1, without gaps.
    pub sequence: u64,
    /// Milliseconds since 1970 by the wall clock; never less than those of the
    /// event before, though the clock be set back.
    pub unix_ms: u64,
    /// The plugin that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The version that it is about, `name@semver+digest8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. Durations are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The host began to watch its plugin directory.
    Watching {
        /// The directory.
        directory: String,
        /// How changes are noticed.
        mode: String,
    },
    /// A file was read and passed inspection, and may be loaded.
    Found {
        /// The file.
        path: String,
        /// Who vouches for it, where somebody was asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        vouched_by: Option<String>,
    },
    /// A file is not trusted yet; a signature that may come is waited for.
    AwaitsSignature {
        /// The file.
        path: String,
        /// For how long, in milliseconds.
        for_ms: u64,
        /// Why it is refused then.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// A file was refused before anything of it ran.
    Refused {
        /// The file.
        path: String,
        /// Why.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// A version in memory would not be let in now: its key was revoked, or nobody vouches
    /// for it any more. It serves on.
    Distrusted {
        /// Why.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// A file went away.
    Gone {
        /// The file.
        path: String,
    },
    /// A version is present and not wanted: a higher one is, or another is
    /// pinned.
    Superseded {
        /// The version that is wanted instead.
        by: String,
        /// The same as a code for programs, `deploy.superseded`.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// A version went through its upgrade in a child process.
    Rehearsed {
        /// Whether it may be deployed; if not, the failure follows.
        passed: bool,
        /// All of it, in microseconds.
        micros: u64,
        /// What was done, in order.
        steps: Vec<RehearsedStep>,
        /// What became of the state, if there was some.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<RehearsedState>,
        /// What became of some rows of its tables.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rows: Vec<RehearsedRows>,
        /// What came of calls that had come last, if such are kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        replayed: Option<RehearsedCalls>,
        /// What should confine the child and is not offered by the kernel, each with why.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        absent: Vec<String>,
    },
    /// A deployment began.
    Deploying {
        /// The version that serves now.
        from: Option<String>,
    },
    /// A version serves calls.
    Published {
        /// The version that it replaced.
        from: Option<String>,
        /// Calls in flight on that version when it was replaced, or when the
        /// gate closed behind them.
        in_flight: u64,
        /// How long each stage took.
        stages: StageTimes,
    },
    /// A version was not deployed; what served before serves on.
    DeployFailed {
        /// The stage at which it failed.
        stage: Stage,
        /// Why.
        #[serde(flatten)]
        failure: FailureReport,
        /// In how many milliseconds it is tried again, if the failure was not
        /// the version's own; without, it is not before its file changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in_ms: Option<u64>,
    },
    /// A version began to serve a share of the calls beside another.
    TrialBegun {
        /// The share, in hundredths of a percent.
        share_basis_points: u16,
    },
    /// A version that is being tried got another share.
    TrialShare {
        /// The share, in hundredths of a percent.
        share_basis_points: u16,
    },
    /// A version that was being tried serves no more: its plugin leaves.
    TrialEnded,
    /// A version that was being tried serves all calls.
    Promoted {
        /// The version that it replaced.
        from: String,
    },
    /// A version serves no more: the one before serves again.
    RolledBack {
        /// The version that serves again.
        to: String,
        /// Calls in flight on the version that is left; leases not counted.
        in_flight: u64,
        /// From the command to the stored pointer, in nanoseconds.
        stored_ns: u64,
        /// The barrier that came after, in nanoseconds.
        barrier_ns: u64,
    },
    /// The probation of a version is over; there is no way back at once.
    Committed,
    /// State was handed over.
    StateHandedOver {
        /// Schema version of the state that was exported.
        from_schema: u32,
        /// Schema version of the state that was restored.
        to_schema: u32,
        /// Bytes restored.
        bytes: u64,
        /// What is lost by it, in words; empty for nothing.
        loss: String,
    },
    /// State was restored from a snapshot: at a start, or because that was asked
    /// for. The next start restores it too.
    StateRestored {
        /// The snapshot's number.
        snapshot: u64,
        /// Schema version of the snapshot.
        from_schema: u32,
        /// Schema version that was restored.
        to_schema: u32,
        /// Bytes restored.
        bytes: u64,
        /// What is lost by it; empty for nothing.
        loss: String,
    },
    /// State was saved, or found to be what the newest snapshot holds.
    StateSaved {
        /// The snapshot's number.
        snapshot: u64,
        /// Whether the snapshot was written now. State that has not changed is
        /// not written again, and pushes no older snapshot out.
        is_new: bool,
        /// Schema version of the state.
        schema: u32,
        /// Bytes of the state.
        bytes: u64,
    },
    /// A snapshot was made the newest one, by an import, or because it is to be
    /// restored and nothing serves: the next start restores it.
    StateReplaced {
        /// The number that it has now.
        snapshot: u64,
        /// Schema version of the state.
        schema: u32,
        /// Bytes of the state.
        bytes: u64,
        /// The number of the snapshot that was the newest before.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
    /// Something about saved state needs attention.
    StateProblem {
        /// What.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// The version's schemas of its tables are what can be gone back to from now
    /// on; rows of earlier ones are brought to them.
    TablesCommitted,
    /// The rows of a table were gone through.
    TableSwept {
        /// The table.
        table: String,
        /// Rows that were looked at.
        rows: u64,
        /// Rows that the plugin converted.
        converted: u64,
        /// Rows that could not be converted, and stay as they are.
        left: u64,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A host before ended while it was open which of two choices of a version stands:
    /// rows were being committed for the later one. Its tables have decided.
    ChoiceDecided {
        /// The later choice; none for the highest version.
        chosen: Option<String>,
        /// The choice before; none for the highest version.
        before: Option<String>,
        /// Whether the later one stands: its rows are committed.
        stands: bool,
    },
    /// An earlier version does not see rows of a table as they are; this was
    /// allowed.
    TableLoss {
        /// The table.
        table: String,
        /// Rows that it does not see, or sees as they were before.
        rows: u64,
    },
    /// A version serves no more calls and waits for those in flight.
    Draining {
        /// Calls in flight.
        in_flight: u64,
    },
    /// The last call in flight has returned.
    Drained {
        /// From the swap to the last return.
        micros: u64,
    },
    /// The library is unmapped, and that was proved.
    Unloaded {
        /// From the drain to the proof.
        micros: u64,
        /// Calls that the version served.
        calls: u64,
        /// Heap bytes that the plugin had left behind, now freed.
        leftover_bytes: u64,
        /// Shared libraries that came with the plugin and stayed.
        companions: Vec<String>,
    },
    /// The library stays in memory for now. In JSON, `unload.resident` stands
    /// beside the pins, as every failure has a code for programs.
    #[serde(serialize_with = "resident")]
    Resident {
        /// What keeps it.
        pins: Vec<String>,
    },
    /// A plugin has no version any more.
    Retired,
    /// A call has not returned for a while.
    StuckCall {
        /// Kernel id of the thread.
        thread: u32,
        /// For how long at least.
        micros: u64,
    },
    /// Something about the host itself needs attention.
    HostProblem {
        /// What.
        #[serde(flatten)]
        failure: FailureReport,
    },
    /// The host ended.
    Stopped,
}

impl EventKind {
    /// The kind's name, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            EventKind::Watching { .. } => "watching",
            EventKind::Found { .. } => "found",
            EventKind::AwaitsSignature { .. } => "awaits_signature",
            EventKind::Refused { .. } => "refused",
            EventKind::Distrusted { .. } => "distrusted",
            EventKind::Gone { .. } => "gone",
            EventKind::Superseded { .. } => "superseded",
            EventKind::Rehearsed { .. } => "rehearsed",
            EventKind::Deploying { .. } => "deploying",
            EventKind::Published { .. } => "published",
            EventKind::DeployFailed { .. } => "deploy_failed",
            EventKind::TrialBegun { .. } => "trial_begun",
            EventKind::TrialShare { .. } => "trial_share",
            EventKind::TrialEnded => "trial_ended",
            EventKind::Promoted { .. } => "promoted",
            EventKind::RolledBack { .. } => "rolled_back",
            EventKind::Committed => "committed",
            EventKind::StateHandedOver { .. } => "state_handed_over",
            EventKind::StateRestored { .. } => "state_restored",
            EventKind::StateSaved { .. } => "state_saved",
            EventKind::StateReplaced { .. } => "state_replaced",
            EventKind::StateProblem { .. } => "state_problem",
            EventKind::TablesCommitted => "tables_committed",
            EventKind::TableSwept { .. } => "table_swept",
            EventKind::ChoiceDecided { .. } => "choice_decided",
            EventKind::TableLoss { .. } => "table_loss",
            EventKind::Draining { .. } => "draining",
            EventKind::Drained { .. } => "drained",
            EventKind::Unloaded { .. } => "unloaded",
            EventKind::Resident { .. } => "resident",
            EventKind::Retired => "retired",
            EventKind::StuckCall { .. } => "stuck_call",
            EventKind::HostProblem { .. } => "host_problem",
            EventKind::Stopped => "stopped",
        }
    }
}

fn resident<S: Serializer>(pins: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Resident<'a> {
        pins: &'a [String],
        #[serde(flatten)]
        failure: FailureReport,
    }
    let message = format!("the version stays in memory: {}", pins.join("; "));
    Resident { pins, failure: FailureReport::with_code(Code::UnloadResident, message) }.serialize(serializer)
}

/// A stage of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Copying the file into the private store.
    Stage,
    /// Reading it without running it.
    Inspect,
    /// Going through all of it in a child process.
    Rehearse,
    /// Opening it and checking its layouts.
    Load,
    /// Building the instance.
    Prepare,
    /// Gate, freeze, export, migrate, restore.
    HandOver,
    /// Taking exclusive resources, and the self-test.
    Activate,
    /// Storing the pointer.
    Publish,
}

impl Stage {
    /// The name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Stage => "stage",
            Stage::Inspect => "inspect",
            Stage::Rehearse => "rehearse",
            Stage::Load => "load",
            Stage::Prepare => "prepare",
            Stage::HandOver => "hand_over",
            Stage::Activate => "activate",
            Stage::Publish => "publish",
        }
    }
}

/// How long the stages of a deployment took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StageTimes {
    /// From the file's report to the beginning of its copy.
    pub notice_us: u64,
    /// Copying and hashing.
    pub stage_us: u64,
    /// Reading without running.
    pub inspect_us: u64,
    /// The rehearsal in a child process; 0 without one.
    pub rehearse_us: u64,
    /// Opening and layout checks.
    pub load_us: u64,
    /// Building the instance; activation and self-test, where no state is
    /// handed over.
    pub prepare_us: u64,
    /// How long the gate was closed to callers; 0 without a hand-over. The next
    /// four are its parts; what is left of it is activation, self-test and waking
    /// callers.
    pub pause_us: u64,
    /// Waiting for calls in flight behind the gate.
    pub quiesce_us: u64,
    /// Freezing the version before, and taking its state; converting it as well, on
    /// the way to an earlier schema.
    pub export_us: u64,
    /// Converting the state, where that is not part of taking or restoring it.
    pub migrate_us: u64,
    /// Giving the state to the version that is to serve.
    pub restore_us: u64,
    /// Storing the pointer, in nanoseconds.
    pub publish_ns: u64,
    /// The barrier that makes calls in flight visible, in nanoseconds: the new
    /// version serves already meanwhile, or the gate is closed.
    pub barrier_ns: u64,
    /// All of it.
    pub total_us: u64,
}

/// A failure as operators and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// The stable code.
    pub code: &'static str,
    /// Who has to act.
    pub blame: &'static str,
    /// What happened, with its causes, on one line.
    pub message: String,
    /// What to do.
    pub next: &'static str,
}

impl FailureReport {
    /// The report of an error.
    pub fn of(error: &(impl Failure + ?Sized)) -> Self {
        FailureReport::with_code(error.code(), with_causes(error))
    }

    /// A report from its parts.
    pub fn with_code(code: Code, message: String) -> Self {
        FailureReport { code: code.as_str(), blame: code.blame().as_str(), message, next: code.next_step() }
    }
}

impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// An error's text with those of its causes, unless they repeat each other.
fn with_causes(error: &(impl Failure + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json_form() {
        let event = Event {
            schema: SCHEMA_VERSION,
            sequence: 1,
            unix_ms: 0,
            plugin: Some("a".into()),
            version: None,
            kind: EventKind::Drained { micros: 7 },
        };
        let json = serde_json::to_value(&event).expect("serialises");
        assert_eq!(json["event"], event.kind.name());
        assert_eq!(json["micros"], 7);
        assert_eq!(json["schema"], SCHEMA_VERSION);
    }

    #[test]
    fn a_resident_version_has_a_code_for_programs() {
        let pins = vec!["thread worker".to_owned(), "its hook stop has not returned".to_owned()];
        let json = serde_json::to_value(EventKind::Resident { pins }).expect("serialises");
        assert_eq!((&json["event"], &json["code"]), (&"resident".into(), &"unload.resident".into()));
        assert_eq!(json["pins"][0], "thread worker");
        let message = "the version stays in memory: thread worker; its hook stop has not returned";
        assert_eq!(json["message"], message);
    }
}
