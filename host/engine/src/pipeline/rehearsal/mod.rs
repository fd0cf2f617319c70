//! The upgrade as the child rehearses it: the same code as in the host, step by step, on
//! one thread, with nobody served.
//!
//! What is done is what can be done beside the version that serves: all but `activate`.
//! Each step is told before it begins, so that a process which ends in it says where.

mod holdings;
mod calls;
mod ending;
mod ways;

use super::{
    candidate::{Candidate, inspect},
    error::DeployError,
    progress::{Party, Progress},
    start::{self, NotStarted},
};
use crate::{
    artifact::stage::{StageLimits, Stager},
    event::FailureReport,
    failure::{Code, Failure},
    load::{Hook, HookError, Interfaces},
    rehearse::{
        LINE_CLOSED, Limits, Measured, Record, Request, Said, Step, confine, read_request, rows_from_bytes,
    },
    service::{Directory, KeptCall, ServiceLimits, Serving, Tables},
    state::envelope::Envelope,
    table::{Limits as TableLimits, SampleRow},
    table_store::TableStoreOptions,
};
use holdings::{descriptors, memory_and_threads};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const TABLE_LIMITS: TableLimits = TableLimits { rows_max: 1_000_000, bytes_max: 1024 * 1024 * 1024 };
const CALL_LIMITS: ServiceLimits = ServiceLimits {
    gate_timeout: Duration::from_secs(5),
    body_bytes_max: 16 * 1024 * 1024,
    answer_bytes_max: 64 * 1024 * 1024,
    in_flight_max: None,
};

/// The whole of a helper process: reads from standard input what is to be rehearsed,
/// rehearses it, and tells the host. To be called before anything else of `main`, in a
/// process that a host has started; a host does so for each version.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if std::env::args().nth(1).as_deref() == Some("rehearse") {
///         return replug_host::rehearsal_helper();
///     }
///     std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn rehearsal_helper() -> ExitCode {
    // What the host, or a library of it, has left open is not for the plugin.
    // SAFETY: nothing of this process has a file open yet but the standard ones, as said.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    let (request, line) = match read_request() {
        Ok(read) => read,
        Err(error) => {
            // There may be nobody to read it.
            let _ = writeln!(io::stderr(), "this is for a host, which says what to rehearse: {error}");
            return ExitCode::from(2);
        }
    };
    let mut stage = Stage { line, limits: request.limits, own: BTreeMap::new(), at: Step::Confine };
    // Here: what is given up holds for this thread and those that it starts.
    let set = match stage.step(Step::Confine, |stage| stage.set(&request)) {
        Ok(set) => set,
        Err(stopped) => stage.end_with(Err(stopped)),
    };
    // As the host's own hooks run: on a thread with the stack that threads have.
    let hooks = thread::Builder::new().name("replug-hooks".to_owned()).spawn(move || {
        let ended = stage.rehearse(set, &request.config);
        stage.end_with(ended)
    });
    // It ends the process, or has panicked, which it has said.
    let _ = hooks.map(thread::JoinHandle::<()>::join);
    ExitCode::FAILURE
}

/// The version is refused.
struct Stopped(Said);

impl From<DeployError> for Stopped {
    fn from(error: DeployError) -> Self {
        Stopped::by(&error)
    }
}

impl From<NotStarted> for Stopped {
    fn from(not_started: NotStarted) -> Self {
        Stopped::by(&*not_started.error)
    }
}

impl Stopped {
    fn by(error: &dyn Failure) -> Stopped {
        let FailureReport { code, message, .. } = FailureReport::of(error);
        Stopped(Said::Failure { code: code.to_owned(), message })
    }

    /// It is the version before that failed.
    fn of_before(self) -> Stopped {
        Stopped(match self.0 {
            Said::Failure { code, message } => Said::Before { code, message },
            other => other,
        })
    }

    fn host(what: &str, error: &io::Error) -> Stopped {
        let code = Code::RehearsalHost.as_str().to_owned();
        Stopped(Said::Failure { code, message: format!("{what}: {error}") })
    }
}

/// What is there before anything of the plugin runs.
struct Set {
    candidate: Candidate,
    before: Option<Candidate>,
    directory: Arc<Directory>,
    state: Option<Envelope>,
    rows: Vec<(String, Vec<SampleRow>)>,
    calls: Vec<KeptCall>,
}

/// Where it is played.
struct Stage {
    line: UnixStream,
    limits: Limits,
    /// The descriptors that are not the plugin's, and what they are.
    own: BTreeMap<String, PathBuf>,
    at: Step,
}

impl Stage {
    /// Tells the host, and ends the process.
    fn end_with(&mut self, ended: Result<(), Stopped>) -> ! {
        let record = match ended {
            Ok(()) => Record::Done,
            Err(Stopped(said)) => Record::Refused { step: self.at, said },
        };
        self.say(&record);
        // SAFETY: ends the process. Nothing of the plugin runs any more: neither its
        // destructors, nor those of what it has left behind.
        unsafe { libc::_exit(0) }
    }

    fn rehearse(&mut self, set: Set, config: &str) -> Result<(), Stopped> {
        let Set { candidate, before, directory, state, rows, calls } = set;
        let opened = self.step(Step::Load, |_| Ok(start::open(candidate, &directory, &nobody_waits())?))?;
        let serving = self.step(Step::Prepare, |_| Ok(start::prepared(opened, &directory, config)?))?;
        let had_state = before.as_ref().is_some_and(|before| before.manifest.state.snapshot);
        if had_state && !serving.manifest().state.snapshot {
            return Err(DeployError::Model { from: "snapshot", to: "stateless" }.into());
        }
        let takes_state = serving.manifest().state.snapshot;
        let (old, state) = match before.filter(|_| takes_state || !calls.is_empty()) {
            Some(before) => self.step_of_before(Step::Before, |stage| {
                let opened = stage.open_before(before, &directory, config, state);
                let (old, state) = opened.map_err(Stopped::of_before)?;
                Ok((Some(old), state))
            })?,
            None => (None, state),
        };
        if let Some(state) = state.filter(|_| takes_state) {
            self.rehearse_state(&serving, old.as_ref(), &state)?;
        }
        if !rows.is_empty() {
            self.step(Step::Rows, |stage| stage.rehearse_rows(&serving, &rows))?;
        }
        self.step(Step::SelfTest, |_| ran(serving.hook(Hook::SelfTest)))?;
        let answers = directory.answer_limits();
        if let Some(old) = old.as_ref().filter(|_| !calls.is_empty()) {
            self.replay(&serving, old, (&calls, answers))?;
        }
        self.make_sample_calls(&serving, answers)?;
        // It stays where it is: its own unload was rehearsed when it was new.
        std::mem::forget(old);
        self.end(serving)
    }

    /// The version before, with the state that it has, or else gives.
    fn open_before(
        &self,
        before: Candidate,
        directory: &Arc<Directory>,
        config: &str,
        state: Option<Envelope>,
    ) -> Result<(Serving, Option<Envelope>), Stopped> {
        let opened = start::open(before, directory, &nobody_waits())?;
        let old = start::prepared(opened, directory, config)?;
        let Some(state) = state else {
            let first = self.first_state_of(&old)?;
            return Ok((old, first));
        };
        let is_its_own = state.schema_version == old.manifest().schema_version;
        if old.manifest().state.snapshot && is_its_own {
            ran(old.restore(state.schema_version, &state.payload))?;
        }
        Ok((old, Some(state)))
    }

    /// Copies what is needed, and gives up what the child may not do then.
    fn set(&mut self, request: &Request) -> Result<Set, Stopped> {
        let stager = Stager::new(request.scratch.join("private"), StageLimits { max_bytes: u64::MAX });
        let stager = stager.map_err(DeployError::from)?;
        let copied = |path: &Path| -> Result<Candidate, Stopped> {
            let candidate = inspect(stager.stage(path).map_err(DeployError::from)?)?;
            candidate.apply_patch()?;
            Ok(candidate)
        };
        let candidate = copied(&request.library)?;
        if candidate.id.digest != request.digest {
            let (wanted, found) = (request.digest.to_string(), candidate.id.digest.to_string());
            return Err(DeployError::Replaced { wanted, found }.into());
        }
        let before = request.before.as_deref().map(copied).transpose().map_err(Stopped::of_before)?;
        let bytes = request.state.as_ref().map(fs::read).transpose();
        let bytes = bytes.map_err(|error| Stopped::host("its state cannot be read", &error))?;
        let opened = bytes.map(|bytes| Envelope::open(&bytes, self.limits.state_bytes)).transpose();
        let state = opened.map_err(|error| Stopped::by(&error))?;
        let mut rows = Vec::new();
        for (table, file) in &request.rows {
            let bytes = fs::read(file).map_err(|error| Stopped::host("rows cannot be read", &error))?;
            rows.push((table.clone(), rows_from_bytes(&bytes)));
        }
        let calls = request.calls.as_ref().map(fs::read).transpose();
        let calls = calls.map_err(|error| Stopped::host("calls cannot be read", &error))?;
        let calls = calls.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from)).transpose();
        let calls = calls.map_err(|error| Stopped::host("calls cannot be read", &error))?;
        let options = TableStoreOptions { accept_loss: true, witnesses: None };
        let tables = Tables::new(TABLE_LIMITS, request.scratch.join("tables"), options);
        let directory = Arc::new(Directory::new(CALL_LIMITS, Interfaces::default(), tables));
        directory.tables.load(&candidate.id.name).map_err(DeployError::from)?;
        let protections = confine(&request.limits, &request.scratch, request.host);
        let protections =
            protections.map_err(|error| Stopped::host("the child cannot confine itself", &error))?;
        self.say(&Record::Confined { protections });
        self.own = descriptors();
        Ok(Set { candidate, before, directory, state, rows, calls: calls.unwrap_or_default() })
    }

    /// Does a step, and says so before and after it.
    fn step<T>(
        &mut self,
        step: Step,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.take(step, false, does)
    }

    /// The same for one that the version before does: its death there is not the new one's.
    fn step_of_before<T>(
        &mut self,
        step: Step,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.take(step, true, does)
    }

    fn take<T>(
        &mut self,
        step: Step,
        of_before: bool,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.at = step;
        self.say(&Record::Enter { step, of_before });
        let begun = Instant::now();
        let done = does(self)?;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let measured = self.measure(micros)?;
        self.say(&Record::Left { step, measured });
        Ok(done)
    }

    /// What the child holds; refused where a plugin must not have that, or has closed what
    /// is not its own.
    fn measure(&self, micros: u64) -> Result<Measured, Stopped> {
        let (memory_kib, threads) = memory_and_threads();
        let mut now = descriptors();
        if now.is_empty() {
            // Its own are there, and all the others that it may have.
            now.clone_from(&self.own);
        }
        let is_gone = |(number, was): &(&String, &PathBuf)| now.get(*number) != Some(*was);
        let closed: Vec<String> = self
            .own
            .iter()
            .filter(is_gone)
            .map(|(number, was)| format!("descriptor {number} ({})", was.display()))
            .collect();
        if !closed.is_empty() {
            return Err(Stopped(Said::Descriptors { closed }));
        }
        if threads > self.limits.threads {
            return Err(Stopped(Said::Threads { threads, max: self.limits.threads }));
        }
        let descriptors = now.len().saturating_sub(self.own.len()) as u64;
        Ok(Measured { micros, memory_kib, threads, descriptors })
    }

    fn say(&mut self, record: &Record) {
        let mut bytes = serde_json::to_vec(record).unwrap_or_default();
        bytes.push(b'\n');
        if self.line.write_all(&bytes).is_err() {
            // The plugin closed it, or the host has gone.
            // SAFETY: ends the process; what the plugin wants done at its end is not.
            unsafe { libc::_exit(LINE_CLOSED) };
        }
    }
}

/// Hooks run on this thread, for as long as the host lets this process live.
fn nobody_waits() -> Progress {
    Progress::at(Party::Candidate, Hook::Prepare)
}

fn ran<T>(hook: Result<T, HookError>) -> Result<T, Stopped> {
    hook.map_err(|error| Stopped::by(&error))
}
