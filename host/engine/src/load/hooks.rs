//! The hooks of an instance, and how they fail.

use super::answer::{Answer, AnswerLimits};
use crate::failure::{Code, Failure};
use replug_abi::{Status, interface::STEP_FAILED};
use serde::Deserialize;
use std::fmt;

/// A hook, by the name that authors know it under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Builds the instance.
    Prepare,
    /// Takes state over.
    Restore,
    /// Takes exclusive resources.
    Activate,
    /// Checks the instance before it is published.
    SelfTest,
    /// Stops background work that changes state.
    Freeze,
    /// Undoes freeze.
    Thaw,
    /// Gives the state.
    Export,
    /// Converts state.
    Migrate,
    /// Converts a row of a table.
    Convert,
    /// Lists the steps on offer.
    Steps,
    /// Lists the methods.
    Methods,
    /// Ends what the instance runs.
    Stop,
    /// Drops the instance.
    Drop,
}

impl Hook {
    /// The name in messages and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Hook::Prepare => "prepare",
            Hook::Restore => "restore",
            Hook::Activate => "activate",
            Hook::SelfTest => "self_test",
            Hook::Freeze => "freeze",
            Hook::Thaw => "thaw",
            Hook::Export => "export",
            Hook::Migrate => "migrate",
            Hook::Convert => "convert",
            Hook::Steps => "steps",
            Hook::Methods => "methods",
            Hook::Stop => "stop",
            Hook::Drop => "drop",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A migration step that a plugin offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub struct StepInfo {
    /// Schema version of the bytes that go in.
    pub from: u32,
    /// Schema version of the bytes that come out.
    pub to: u32,
    /// Who converts.
    pub kind: StepKind,
}

/// Who converts state in a [`StepInfo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Code of the author.
    Hook,
    /// Field by field, by name.
    Auto,
}

/// A hook did not do what it was called for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{hook} {kind}: {reason}")]
pub struct HookError {
    /// The hook.
    pub hook: Hook,
    /// In which way it failed.
    pub kind: HookErrorKind,
    /// The plugin's own words, or the host's about it.
    pub reason: String,
}

/// In which way a hook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookErrorKind {
    /// It returned an error.
    Failed,
    /// It panicked; the panic was caught.
    Panicked,
    /// It has not returned in time, and still runs.
    TimedOut,
    /// It still runs, and others had used up the time before it began.
    OutOfTime,
    /// The configuration does not fit.
    BadConfig,
    /// It gave more bytes than allowed.
    TooLarge,
    /// It answered what it should not: bytes of the wrong shape.
    Lied,
    /// The host could not run it.
    Host,
}

impl fmt::Display for HookErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookErrorKind::Failed => "failed",
            HookErrorKind::Panicked => "panicked",
            HookErrorKind::TimedOut => "did not return in time",
            HookErrorKind::OutOfTime => "was left too little time",
            HookErrorKind::BadConfig => "refused its configuration",
            HookErrorKind::TooLarge => "gave too many bytes",
            HookErrorKind::Lied => "gave a wrong answer",
            HookErrorKind::Host => "could not be run",
        })
    }
}

impl HookError {
    /// The error behind a status, or nothing when it is a success.
    pub(super) fn from_status(
        hook: Hook,
        limits: AnswerLimits,
        status: Status,
        answer: &Answer,
    ) -> Option<HookError> {
        let kind = match status {
            _ if answer.overflowed => HookErrorKind::TooLarge,
            Status::OK => return None,
            Status::PANIC => HookErrorKind::Panicked,
            Status::BAD_CONFIG => HookErrorKind::BadConfig,
            _ => HookErrorKind::Failed,
        };
        let reason = match status {
            _ if answer.overflowed => format!("more than {} bytes", limits.body_bytes_max),
            Status::ERROR | Status::PANIC | Status::BAD_CONFIG => answer.error_text(),
            other => other.to_string(),
        };
        // Where all steps are made at once, with callers waiting: it is the step
        // that has to be mended, as when it is tried alone.
        let hook = match (hook, kind, answer.error_code.as_str()) {
            (Hook::Restore | Hook::Export, HookErrorKind::Failed, STEP_FAILED) => Hook::Migrate,
            _ => hook,
        };
        Some(HookError { hook, kind, reason })
    }
}

impl Failure for HookError {
    fn code(&self) -> Code {
        match (self.kind, self.hook) {
            (HookErrorKind::Panicked, _) => Code::HookPanicked,
            (HookErrorKind::TimedOut, _) => Code::HookTimeout,
            (HookErrorKind::OutOfTime, _) => Code::GateBudget,
            (HookErrorKind::BadConfig, _) => Code::ConfigInvalid,
            // What a plugin says about itself is no state.
            (HookErrorKind::TooLarge | HookErrorKind::Lied, Hook::Steps | Hook::Methods) => Code::HookFailed,
            (HookErrorKind::TooLarge, _) => Code::StateTooLarge,
            (HookErrorKind::Lied, _) => Code::StateBadBytes,
            (HookErrorKind::Host, _) => Code::HostThread,
            (HookErrorKind::Failed, Hook::Prepare) => Code::PrepareFailed,
            (HookErrorKind::Failed, Hook::SelfTest) => Code::SelfTestFailed,
            (HookErrorKind::Failed, Hook::Migrate | Hook::Convert) => Code::StateMigrate,
            (HookErrorKind::Failed, _) => Code::HookFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_bytes_name_the_limit_and_speak_of_state_only_where_it_is_state() {
        let limits = AnswerLimits { body_bytes_max: 16 };
        let answer = Answer { overflowed: true, ..Answer::default() };
        let error = |hook| HookError::from_status(hook, limits, Status::REFUSED, &answer).expect("failed");
        assert_eq!(error(Hook::Export).code(), Code::StateTooLarge);
        assert_eq!(error(Hook::Steps).code(), Code::HookFailed);
        assert_eq!(error(Hook::Methods).to_string(), "methods gave too many bytes: more than 16 bytes");
    }

    /// Once, a step that failed was a hook that failed if callers waited for it.
    #[test]
    fn a_step_that_fails_is_named_as_one_wherever_it_is_made() {
        let limits = AnswerLimits { body_bytes_max: 16 };
        let error = |hook, code: &str| {
            let answer = Answer { error_code: code.to_owned(), ..Answer::default() };
            HookError::from_status(hook, limits, Status::ERROR, &answer).expect("failed")
        };
        for hook in [Hook::Export, Hook::Restore, Hook::Migrate] {
            let failed = error(hook, STEP_FAILED);
            assert_eq!((failed.hook, failed.code()), (Hook::Migrate, Code::StateMigrate), "{failed}");
        }
        assert_eq!(error(Hook::Restore, "state.bad").code(), Code::HookFailed);
        assert_eq!(error(Hook::Activate, STEP_FAILED).code(), Code::HookFailed);
    }
}
