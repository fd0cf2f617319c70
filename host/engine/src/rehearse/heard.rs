//! What the child has said and how it ended, and what follows from that.

use super::{
    Done, Rehearsal, Report,
    error::RehearsalError,
    wire::{Record, Said, Step},
};
use crate::failure::Code;
use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// What the child may say in all, in bytes: far more than it has to.
const SAID_BYTES_MAX: usize = 256 * 1024;
/// How much of its standard error is kept, from the end.
const STDERR_BYTES_MAX: usize = 4 * 1024;
/// Lines of it that are shown.
const STDERR_LINES_MAX: usize = 4;

/// What the child ends with when the plugin has closed its line to the host.
pub(crate) const LINE_CLOSED: i32 = 71;

/// What the child has said.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) report: Report,
    /// A line that has not ended.
    line: Vec<u8>,
    bytes: usize,
    at: Option<Step>,
    refused: Option<(Step, Said)>,
    is_done: bool,
    /// Something that no helper says.
    nonsense: Option<String>,
    stderr: Vec<u8>,
}

/// How the child ended.
pub(super) enum Ended {
    Status(ExitStatus),
    Killed,
}

impl Heard {
    /// On its line to the host.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        if self.bytes > SAID_BYTES_MAX {
            self.nonsense = Some(format!("it said more than {SAID_BYTES_MAX} bytes"));
            return;
        }
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match serde_json::from_slice(&line) {
                Ok(record) => self.note(record),
                Err(error) => self.nonsense = Some(format!("it said something else: {error}")),
            }
        }
    }

    /// On standard error.
    pub(super) fn shout(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        self.stderr.drain(..self.stderr.len().saturating_sub(STDERR_BYTES_MAX));
    }

    pub(super) fn is_nonsense(&self) -> bool {
        self.nonsense.is_some()
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Enter { step } => self.at = Some(step),
            Record::Left { step, measured } => self.report.steps.push(Done { step, measured }),
            Record::Confined { protections } => self.report.protections = protections,
            Record::State { way } => self.report.state = Some(way),
            Record::Rows { rows } => self.report.rows.push(rows),
            Record::Replayed { replayed } => self.report.replayed = Some(replayed),
            Record::Refused { step, said } => self.refused = Some((step, said)),
            Record::Done => self.is_done = true,
        }
    }
}

/// What follows for the version.
pub(super) fn verdict(rehearsal: &Rehearsal, heard: &mut Heard, ended: Ended) -> Result<(), RehearsalError> {
    let stderr = last_lines(&heard.stderr);
    let no_helper = |reason| RehearsalError::NoHelper { path: rehearsal.helper.clone(), reason };
    if let Some((step, said)) = heard.refused.take() {
        return Err(refused(step, said).unwrap_or_else(no_helper));
    }
    let Some(step) = heard.at else {
        let how = match ended {
            Ended::Status(status) => status.to_string(),
            Ended::Killed => format!("it did nothing for {} ms", rehearsal.timeout.as_millis()),
        };
        return Err(no_helper(if stderr.is_empty() { how } else { format!("{how}; {stderr}") }));
    };
    if let Some(nonsense) = heard.nonsense.take() {
        // Before anything of the plugin runs, it is the helper's own.
        return Err(match step {
            Step::Confine => no_helper(nonsense),
            _ => RehearsalError::Descriptors {
                step,
                closed: vec![format!("the line to the host: {nonsense}")],
            },
        });
    }
    let status = match ended {
        Ended::Killed => return Err(RehearsalError::TimedOut { step, after: rehearsal.timeout, stderr }),
        Ended::Status(status) => status,
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => Err(RehearsalError::Crashed { step, signal: name_of(signal), stderr }),
        (None, Some(0)) if heard.is_done => Ok(()),
        (None, Some(LINE_CLOSED)) => {
            Err(RehearsalError::Descriptors { step, closed: vec!["the line to the host".to_owned()] })
        }
        (None, code) => Err(RehearsalError::Exited { step, status: code.unwrap_or_default(), stderr }),
    }
}

/// What the child refuses the version for; else what is wrong with the child.
fn refused(step: Step, said: Said) -> Result<RehearsalError, String> {
    Ok(match said {
        Said::Failure { code, message } => {
            RehearsalError::Refused { step, code: known(&code, &message)?, message }
        }
        Said::Before { code, message } => {
            RehearsalError::Before { step, code: known(&code, &message)?, message }
        }
        Said::Descriptors { closed } => RehearsalError::Descriptors { step, closed },
        Said::Threads { threads, max } => RehearsalError::Threads { step, threads, max },
        Said::Sample { method, body, message } => RehearsalError::Sample { step, method, body, message },
        Said::Resident { pins } => RehearsalError::Resident { step, pins },
    })
}

fn known(code: &str, message: &str) -> Result<Code, String> {
    let unknown = || format!("it knows the code {code}, which this host does not: {message}");
    Code::from_name(code).ok_or_else(unknown)
}

/// The last lines, as one.
fn last_lines(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(STDERR_LINES_MAX)..].join(" / ")
}

/// The signals that end a process which did something wrong, by name.
fn name_of(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_as_one() {
        let said = b"one\n\n  two\nthree\nfour\nfive\n";
        assert_eq!(last_lines(said), "two / three / four / five");
        assert_eq!(last_lines(b""), "");
    }

    #[test]
    fn what_comes_in_pieces_is_read_by_the_line_and_nonsense_is_no_verdict() {
        let mut heard = Heard::default();
        heard.say(br#"{"say":"enter","st"#);
        assert_eq!(heard.at, None);
        heard.say(b"ep\":\"load\"}\n{\"say\":\"done\"}\n");
        assert_eq!((heard.at, heard.is_done, heard.is_nonsense()), (Some(Step::Load), true, false));
        heard.say(b"hello\n");
        assert!(heard.is_nonsense());
        let mut endless = Heard::default();
        endless.say(&vec![b'x'; SAID_BYTES_MAX + 1]);
        assert!(endless.is_nonsense() && endless.line.is_empty());
    }

    #[test]
    fn only_a_child_that_did_everything_and_ended_well_has_passed() {
        let rehearsal = Rehearsal::by("helper");
        let after = |said: &[u8], status: i32| {
            let mut heard = Heard::default();
            heard.say(said);
            verdict(&rehearsal, &mut heard, Ended::Status(ExitStatus::from_raw(status)))
        };
        let done = b"{\"say\":\"enter\",\"step\":\"unload\"}\n{\"say\":\"done\"}\n";
        assert!(after(done, 0).is_ok());
        assert!(matches!(
            after(done, libc::SIGSEGV),
            Err(RehearsalError::Crashed { step: Step::Unload, .. })
        ));
        assert!(matches!(after(done, 1 << 8), Err(RehearsalError::Exited { status: 1, .. })));
        let begun = b"{\"say\":\"enter\",\"step\":\"load\"}\n";
        assert!(matches!(after(begun, 0), Err(RehearsalError::Exited { step: Step::Load, status: 0, .. })));
        assert!(matches!(after(begun, LINE_CLOSED << 8), Err(RehearsalError::Descriptors { .. })));
        assert!(matches!(after(b"", 0), Err(RehearsalError::NoHelper { .. })));
    }
}
