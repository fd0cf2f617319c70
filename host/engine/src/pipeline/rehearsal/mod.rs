//! The upgrade as the child rehearses it: the same code as in the host, step by step, on
//! one thread, with nobody served.
//!
//! What is done is what can be done beside the version that serves: all but `activate`.
//! Each step is told before it begins, so that a process which ends in it says where.

mod holdings;
mod set;
mod calls;
mod ending;
mod ways;

use super::{
    candidate::Candidate,
    error::DeployError,
    progress::{Party, Progress},
    start::{self, NotStarted},
};
use crate::{
    event::FailureReport,
    failure::{Code, Failure},
    load::{Hook, HookError, Interfaces},
    rehearse::{Bounds, LINE_CLOSED, Limits, Measured, Record, Said, Step, read_request},
    service::{Directory, Serving},
    state::envelope::Envelope,
};
use calls::listed;
use holdings::{Gauge, HOOKS, Holdings};
use replug_abi::TypedInterface;
use set::{Set, TABLES};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Instant,
};

/// So many files that were left open are named.
const FILES_SHOWN_MAX: usize = 8;
/// As much of a plugin's words is told.
const MESSAGE_CHARS_MAX: usize = 4096;

/// The whole of a helper process: reads from standard input what is to be rehearsed,
/// rehearses it, and tells the host. To be run before anything else of `main`, in a
/// process that a host has started; a host does so for each version.
///
/// ```no_run
/// use replug_host::RehearsalHelper;
///
/// fn main() -> std::process::ExitCode {
///     if std::env::args().nth(1).as_deref() == Some("rehearse") {
///         return RehearsalHelper::default().run();
///     }
///     std::process::ExitCode::SUCCESS
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "run() is the whole of a helper"]
pub struct RehearsalHelper {
    interfaces: Interfaces,
}

impl RehearsalHelper {
    /// Compares the layouts of a typed interface, as a host does which was [told of
    /// it](crate::HostBuilder::interface). Of one that the helper was not told of, they are
    /// compared when the library is loaded into the host, which the report says.
    pub fn interface<I: TypedInterface + ?Sized>(mut self) -> Self {
        // For one too many there is no host that would ask.
        self.interfaces.add::<I>();
        self
    }

    /// Does all of it; the end of the process.
    #[must_use = "a process ends with it"]
    pub fn run(self) -> ExitCode {
        helper(self.interfaces)
    }
}

fn helper(interfaces: Interfaces) -> ExitCode {
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
    let gauge = match Gauge::new(request.scratch.join(TABLES)) {
        Ok(gauge) => gauge,
        Err(error) => {
            let _ = writeln!(io::stderr(), "what this process holds cannot be seen: {error}");
            return ExitCode::from(2);
        }
    };
    let mut stage = Stage {
        line,
        gauge,
        limits: request.limits,
        bounds: request.bounds,
        own: BTreeMap::new(),
        of_before: Besides::default(),
        at: Step::Confine,
    };
    // Here: what is given up holds for this thread and those that it starts.
    let set = match stage.step(Step::Confine, |stage| stage.set(&request, interfaces)) {
        Ok(set) => set,
        Err(stopped) => stage.end_with(Err(stopped)),
    };
    // As the host's own hooks run: on a thread with the stack that threads have.
    let hooks = thread::Builder::new().name(HOOKS.to_owned()).spawn(move || {
        // Else it counts as one of the plugin's.
        let _ = stage.gauge.know_this_thread();
        let ended = stage.rehearse(set, &request.config);
        stage.end_with(ended)
    });
    // It ends the process, or has panicked, which it has said.
    let _ = hooks.map(thread::JoinHandle::<()>::join);
    ExitCode::FAILURE
}

/// The version is refused, or the one before has failed.
struct Stopped {
    said: Said,
    of_before: bool,
}

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

impl From<Said> for Stopped {
    fn from(said: Said) -> Self {
        Stopped { said, of_before: false }
    }
}

impl Stopped {
    fn by(error: &dyn Failure) -> Stopped {
        let FailureReport { code, message, .. } = FailureReport::of(error);
        Said::Failure { code: code.to_owned(), message: cut_off(&message, MESSAGE_CHARS_MAX) }.into()
    }

    /// It is the version before that failed.
    fn by_before(self) -> Stopped {
        Stopped { of_before: true, ..self }
    }

    fn host(what: &str, error: &io::Error) -> Stopped {
        let code = Code::RehearsalHost.as_str().to_owned();
        Said::Failure { code, message: format!("{what}: {error}") }.into()
    }
}

/// Where it is played.
struct Stage {
    line: UnixStream,
    gauge: Gauge,
    limits: Limits,
    bounds: Bounds,
    /// The descriptors that are the child's own, and what they are.
    own: BTreeMap<String, PathBuf>,
    of_before: Besides,
    at: Step,
}

/// What the version before holds beside the new one.
#[derive(Default)]
struct Besides {
    threads: u64,
    files: BTreeSet<String>,
}

impl Stage {
    /// Tells the host, and ends the process.
    fn end_with(&mut self, ended: Result<(), Stopped>) -> ! {
        let record = match ended {
            Ok(()) => Record::Done,
            Err(Stopped { said, of_before }) => Record::Refused { step: self.at, of_before, said },
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
        let methods = self.step(Step::Methods, |_| listed(&serving))?;
        let had_state = before.as_ref().is_some_and(|before| before.manifest.state.snapshot);
        if had_state && !serving.manifest().state.snapshot {
            return Err(DeployError::Model { from: "snapshot", to: "stateless" }.into());
        }
        let takes_state = serving.manifest().state.snapshot;
        let (old, state) = match before.filter(|_| takes_state || !calls.is_empty()) {
            Some(before) => self.step_of_before(Step::Before, |stage| {
                let (old, state) = stage.open_before(before, &directory, config, state)?;
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
            self.replay((&serving, &methods), old, (&calls, answers))?;
        }
        self.make_sample_calls(&serving, &methods, answers)?;
        self.end(serving)?;
        if old.is_none() {
            return self.leaves_no_file_open();
        }
        // It stays where it is, and runs on: its own unload was rehearsed when it was new, and
        // who has what open cannot be told apart.
        std::mem::forget(old);
        Ok(())
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

    /// Does a step, and says so before and after it.
    fn step<T>(
        &mut self,
        step: Step,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.take(step, false, does)
    }

    /// The same for one that the version before does: nothing of it is the new one's doing.
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
        let taken = self.take_and_measure(step, of_before, does);
        taken.map_err(|stopped| if of_before { stopped.by_before() } else { stopped })
    }

    fn take_and_measure<T>(
        &mut self,
        step: Step,
        of_before: bool,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.at = step;
        self.say(&Record::Enter { step, of_before });
        let before = of_before.then(|| self.holds()).transpose()?;
        let begun = Instant::now();
        let done = does(self)?;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now = self.holds()?;
        if let Some(before) = before {
            self.of_before.threads += now.threads.saturating_sub(before.threads);
            let opened = now.files.keys().filter(|number| !before.files.contains_key(*number));
            self.of_before.files.extend(opened.cloned());
        }
        let measured = self.measured(micros, &now)?;
        self.say(&Record::Left { step, measured, besides: self.of_before.threads });
        Ok(done)
    }

    fn holds(&self) -> Result<Holdings, Stopped> {
        // The files by which it is read have been there all the time.
        let closed = |error| vec![format!("what the child is measured by ({error})")];
        self.gauge.read().map_err(|error| Said::Descriptors { closed: closed(error) }.into())
    }

    /// What the plugin holds; refused where it must not have that, or has closed what is
    /// not its own.
    fn measured(&self, micros: u64, now: &Holdings) -> Result<Measured, Stopped> {
        let is_gone = |(number, was): &(&String, &PathBuf)| now.files.get(*number) != Some(*was);
        let closed: Vec<String> = self
            .own
            .iter()
            .filter(is_gone)
            .map(|(number, was)| format!("descriptor {number} ({})", was.display()))
            .collect();
        if !closed.is_empty() {
            return Err(Said::Descriptors { closed }.into());
        }
        let threads = now.threads.saturating_sub(self.of_before.threads);
        if threads > self.limits.threads {
            return Err(Said::Threads { threads, max: self.limits.threads }.into());
        }
        let descriptors = self.of_the_plugin(now).count() as u64;
        Ok(Measured { micros, memory_kib: now.memory_kib, threads, descriptors })
    }

    fn of_the_plugin<'h>(&'h self, now: &'h Holdings) -> impl Iterator<Item = &'h PathBuf> {
        let is_its =
            |number: &String| !self.own.contains_key(number) && !self.of_before.files.contains(number);
        now.files.iter().filter(move |(number, _)| is_its(number)).map(|(_, what)| what)
    }

    /// What the plugin has open, by name, as far as a message has room.
    fn open_files(&self) -> Result<Vec<String>, Stopped> {
        let now = self.holds()?;
        let files = self.of_the_plugin(&now).take(FILES_SHOWN_MAX);
        Ok(files.map(|what| what.display().to_string()).collect())
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

/// The beginning of a text, where it is longer than so many characters.
fn cut_off(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn ran<T>(hook: Result<T, HookError>) -> Result<T, Stopped> {
    hook.map_err(|error| Stopped::by(&error))
}
