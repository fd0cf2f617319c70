//! Why a version did not pass its rehearsal.

use super::wire::Step;
use crate::failure::{Code, Failure};
use std::{io, path::PathBuf, time::Duration};

/// Why a version did not pass its rehearsal. Nothing of it ran in the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// There is no helper to rehearse with.
    #[error("the helper that rehearses versions, {}, cannot be started", path.display())]
    Helper {
        /// The program.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The program is no helper, or one of another version.
    #[error("{} does not rehearse: {reason}", path.display())]
    NoHelper {
        /// The program.
        path: PathBuf,
        /// What it said, or did.
        reason: String,
    },
    /// The host could not prepare it, or not follow it.
    #[error("the rehearsal cannot be held: {what}")]
    Host {
        /// What could not be done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A signal ended the child.
    #[error("rehearsal, {}: killed by {signal}{}", step.as_str(), tail(stderr))]
    Crashed {
        /// The step that it was at.
        step: Step,
        /// The signal, by name where it has one.
        signal: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The child ended without a verdict.
    #[error("rehearsal, {}: the process was ended with status {status}{}", step.as_str(), tail(stderr))]
    Exited {
        /// The step that it was at.
        step: Step,
        /// Its exit status.
        status: i32,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// Something else is wanted, or the host ends, and it was given up.
    #[error("the rehearsal was given up: the host ends, or wants something else")]
    Stopped,
    /// It took too long, and was killed.
    #[error("rehearsal, {}: not done after {} ms{}", step.as_str(), after.as_millis(), tail(stderr))]
    TimedOut {
        /// The step that it was at.
        step: Step,
        /// The time limit.
        after: Duration,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// It would be refused in the host, too.
    #[error("rehearsal, {}: {message}", step.as_str())]
    Refused {
        /// The step.
        step: Step,
        /// The code that it would have there.
        code: Code,
        /// Why.
        message: String,
    },
    /// It is the version that serves which failed: as it gave its state, or converted it, or
    /// was called beside the new one.
    #[error("rehearsal, {}: the version that serves: {message}", step.as_str())]
    Before {
        /// The step.
        step: Step,
        /// The code of it.
        code: Code,
        /// Why.
        message: String,
    },
    /// It closed or used descriptors that are not its own.
    #[error("rehearsal, {}: it closed or used what it had not opened: {}", step.as_str(), closed.join(", "))]
    Descriptors {
        /// The step.
        step: Step,
        /// What they were.
        closed: Vec<String>,
    },
    /// It started too many threads.
    #[error("rehearsal, {}: it had {threads} threads, and may have {max}", step.as_str())]
    Threads {
        /// The step after which they were counted.
        step: Step,
        /// How many there were.
        threads: u64,
        /// How many there may be.
        max: u64,
    },
    /// A call that it gives as an example was answered with an error.
    #[error("rehearsal, {}: its example of a call of {method}, {body:?}, failed: {message}", step.as_str())]
    Sample {
        /// The step.
        step: Step,
        /// The method.
        method: String,
        /// What it was asked.
        body: String,
        /// The answer.
        message: String,
    },
    /// It used too much memory while a step was under way, and was killed.
    #[error("rehearsal, {}: it used {kib} KiB of memory, and may use {kib_max}", step.as_str())]
    Memory {
        /// The step.
        step: Step,
        /// What it used.
        kib: u64,
        /// What it may.
        kib_max: u64,
    },
    /// It left files open when it was unloaded.
    #[error("rehearsal, {}: it is unloaded and has left open {}", step.as_str(), files.join(", "))]
    Leaked {
        /// The step.
        step: Step,
        /// What they are.
        files: Vec<String>,
    },
    /// It could not be unloaded.
    #[error("rehearsal, {}: the library stays in memory: {}", step.as_str(), pins.join("; "))]
    Resident {
        /// The step.
        step: Step,
        /// What keeps it.
        pins: Vec<String>,
    },
}

impl RehearsalError {
    /// The step at which it was refused; none if it did not come to that.
    pub fn step(&self) -> Option<Step> {
        match self {
            RehearsalError::Helper { .. }
            | RehearsalError::NoHelper { .. }
            | RehearsalError::Host { .. }
            | RehearsalError::Stopped => None,
            RehearsalError::Crashed { step, .. }
            | RehearsalError::Exited { step, .. }
            | RehearsalError::TimedOut { step, .. }
            | RehearsalError::Refused { step, .. }
            | RehearsalError::Before { step, .. }
            | RehearsalError::Descriptors { step, .. }
            | RehearsalError::Threads { step, .. }
            | RehearsalError::Memory { step, .. }
            | RehearsalError::Sample { step, .. }
            | RehearsalError::Leaked { step, .. }
            | RehearsalError::Resident { step, .. } => Some(*step),
        }
    }
}

/// What the child said last, where it said something.
fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it said: {stderr}") }
}

impl Failure for RehearsalError {
    fn code(&self) -> Code {
        match self {
            RehearsalError::Helper { .. } | RehearsalError::NoHelper { .. } => Code::RehearsalHelper,
            RehearsalError::Host { .. } => Code::RehearsalHost,
            RehearsalError::Crashed { .. } => Code::RehearsalCrashed,
            RehearsalError::Exited { .. } => Code::RehearsalExited,
            RehearsalError::TimedOut { .. } => Code::RehearsalTimeout,
            RehearsalError::Refused { code, .. } | RehearsalError::Before { code, .. } => *code,
            RehearsalError::Descriptors { .. } => Code::RehearsalDescriptors,
            RehearsalError::Threads { .. } => Code::RehearsalThreads,
            RehearsalError::Sample { .. } => Code::RehearsalSample,
            RehearsalError::Memory { .. } => Code::RehearsalMemory,
            RehearsalError::Stopped => Code::DeploySuperseded,
            RehearsalError::Leaked { .. } => Code::RehearsalLeaked,
            RehearsalError::Resident { .. } => Code::RehearsalResident,
        }
    }
}
