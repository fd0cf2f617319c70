//! What the child has said and how it ended, and what follows from that.

use super::{
    Done, Rehearsal, Report, Unfinished,
    error::RehearsalError,
    wire::{Record, Said, Step},
};
use crate::failure::{Code, Failure};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Instant};

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
    shouted: usize,
    at: Option<Step>,
    /// Since when.
    since: Option<Instant>,
    /// The step is one of the version before.
    pub(super) of_before: bool,
    /// Threads of that one.
    pub(super) besides: u64,
    refused: Option<(Step, bool, Said)>,
    is_done: bool,
    /// Something that no helper says.
    nonsense: Option<String>,
    stderr: Vec<u8>,
}

/// How the child ended.
pub(super) enum Ended {
    Status(ExitStatus),
    /// The time was over, or it spoke nonsense.
    Killed,
    /// The host gave it up.
    Stopped,
    /// It held too much.
    Over(Over),
}

/// What a child holds too much of while a step is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Threads(u64),
    MemoryKib(u64),
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
        self.shouted = self.shouted.saturating_add(bytes.len());
        self.stderr.extend_from_slice(bytes);
        self.stderr.drain(..self.stderr.len().saturating_sub(STDERR_BYTES_MAX));
    }

    /// The step that was begun and not done, and how long ago that is.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let micros = u64::try_from(self.since?.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(Unfinished { step: self.at?, micros })
    }

    /// How much it has said, wherever.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.shouted
    }

    pub(super) fn is_nonsense(&self) -> bool {
        self.nonsense.is_some()
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Enter { step, of_before } => {
                (self.at, self.since, self.of_before) = (Some(step), Some(Instant::now()), of_before);
            }
            Record::Left { step, measured, besides } => {
                self.since = None;
                self.besides = besides;
                self.report.steps.push(Done { step, measured });
            }
            Record::Confined { protections } => self.report.protections = protections,
            Record::State { way } => self.report.state = Some(way),
            Record::Rows { rows } => self.report.rows.push(rows),
            Record::Replayed { replayed } => self.report.replayed = Some(replayed),
            Record::Refused { step, of_before, said } => self.refused = Some((step, of_before, said)),
            // The last step is behind it, or this was said by somebody else.
            Record::Done => {
                let unloaded = |done: &Done| done.step == Step::Unload;
                self.is_done = self.report.steps.last().is_some_and(unloaded);
            }
        }
    }
}

/// What follows for the version.
pub(super) fn verdict(rehearsal: &Rehearsal, heard: &mut Heard, ended: Ended) -> Result<(), RehearsalError> {
    let no_helper = |reason| RehearsalError::NoHelper { path: rehearsal.helper.clone(), reason };
    if matches!(ended, Ended::Stopped) {
        return Err(RehearsalError::Stopped);
    }
    if let Some((step, of_before, said)) = heard.refused.take() {
        return Err(match refused(step, said) {
            Ok(error) if of_before => by_before(step, error),
            Ok(error) => error,
            Err(reason) => no_helper(reason),
        });
    }
    let Some(step) = heard.at else {
        let stderr = last_lines(&heard.stderr);
        let how = match ended {
            Ended::Status(status) => status.to_string(),
            _ => format!("it did nothing for {} ms", rehearsal.timeout.as_millis()),
        };
        return Err(no_helper(if stderr.is_empty() { how } else { format!("{how}; {stderr}") }));
    };
    match (how_it_ended(rehearsal, heard, step, ended), step) {
        (Ok(()), _) => Ok(()),
        // Nothing of the plugin has run.
        (Err(error), Step::Confine) => Err(no_helper(error.to_string())),
        (Err(error), _) if heard.of_before => Err(by_before(step, error)),
        (Err(error), _) => Err(error),
    }
}

/// The same, whoever's doing it is.
fn how_it_ended(
    rehearsal: &Rehearsal,
    heard: &mut Heard,
    step: Step,
    ended: Ended,
) -> Result<(), RehearsalError> {
    let stderr = last_lines(&heard.stderr);
    let line = |what: &str| RehearsalError::Descriptors { step, closed: vec![what.to_owned()] };
    if let Some(nonsense) = heard.nonsense.take() {
        return Err(line(&format!("the line to the host: {nonsense}")));
    }
    let status = match ended {
        Ended::Status(status) => status,
        Ended::Over(Over::Threads(threads)) => {
            return Err(RehearsalError::Threads { step, threads, max: rehearsal.limits.threads });
        }
        Ended::Over(Over::MemoryKib(kib)) => {
            return Err(RehearsalError::Memory { step, kib, kib_max: rehearsal.limits.memory_bytes / 1024 });
        }
        Ended::Killed | Ended::Stopped => {
            return Err(RehearsalError::TimedOut { step, after: rehearsal.timeout, stderr });
        }
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => Err(RehearsalError::Crashed { step, signal: name_of(signal), stderr }),
        (None, Some(0)) if heard.is_done => Ok(()),
        (None, Some(LINE_CLOSED)) => Err(line("the line to the host")),
        (None, code) => Err(RehearsalError::Exited { step, status: code.unwrap_or_default(), stderr }),
    }
}

/// It is the version before that did it.
fn by_before(step: Step, error: RehearsalError) -> RehearsalError {
    let code = error.code();
    let message = match error {
        RehearsalError::Refused { message, .. } => message,
        other => other.to_string(),
    };
    RehearsalError::Before { step, code, message }
}

/// What the child refuses the version for; else what is wrong with the child.
fn refused(step: Step, said: Said) -> Result<RehearsalError, String> {
    Ok(match said {
        Said::Failure { code, message } => {
            RehearsalError::Refused { step, code: known(&code, &message)?, message }
        }
        Said::Descriptors { closed } => RehearsalError::Descriptors { step, closed },
        Said::Threads { threads, max } => RehearsalError::Threads { step, threads, max },
        Said::Sample { method, body, message } => RehearsalError::Sample { step, method, body, message },
        Said::Leaked { files } => RehearsalError::Leaked { step, files },
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
        heard.say(br#"{"say":"enter","of_before":false,"st"#);
        assert_eq!(heard.at, None);
        heard.say(b"ep\":\"load\"}\n{\"say\":\"done\"}\n");
        assert_eq!((heard.at, heard.is_nonsense()), (Some(Step::Load), false));
        assert!(!heard.is_done, "there is more to be done");
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
        let enter = |step: &str, of_before: bool| {
            format!("{{\"say\":\"enter\",\"step\":\"{step}\",\"of_before\":{of_before}}}\n")
        };
        let left = r#"{"say":"left","step":"unload","micros":1,"memory_kib":1,"threads":0,"descriptors":0,"besides":0}"#;
        let done = format!("{}{left}\n{{\"say\":\"done\"}}\n", enter("unload", false));
        assert!(after(done.as_bytes(), 0).is_ok());
        assert!(matches!(
            after(done.as_bytes(), libc::SIGSEGV),
            Err(RehearsalError::Crashed { step: Step::Unload, .. })
        ));
        assert!(matches!(after(done.as_bytes(), 1 << 8), Err(RehearsalError::Exited { status: 1, .. })));
        let begun = enter("load", false);
        assert!(matches!(
            after(begun.as_bytes(), 0),
            Err(RehearsalError::Exited { step: Step::Load, status: 0, .. })
        ));
        assert!(matches!(after(begun.as_bytes(), LINE_CLOSED << 8), Err(RehearsalError::Descriptors { .. })));
        let of_before = enter("migrate", true);
        assert!(matches!(
            after(of_before.as_bytes(), libc::SIGSEGV),
            Err(RehearsalError::Before { code: Code::RehearsalCrashed, .. })
        ));
        let not_begun = enter("confine", false);
        assert!(matches!(after(not_begun.as_bytes(), libc::SIGKILL), Err(RehearsalError::NoHelper { .. })));
        assert!(matches!(after(b"", 0), Err(RehearsalError::NoHelper { .. })));
    }
}
