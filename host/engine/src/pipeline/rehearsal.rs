//! The upgrade as the child rehearses it: the same code as in the host, step by step, on
//! one thread, with nobody served.
//!
//! What is done is what can be done beside the version that serves: all but `activate`.
//! Each step is told before it begins, so that a process which ends in it says where.

use super::{
    candidate::{Candidate, inspect},
    error::DeployError,
    progress::{Party, Progress},
    start::{self, NotStarted},
    state::{self, Converted},
};
use crate::{
    artifact::stage::{StageLimits, Stager},
    clock::monotonic_ns,
    event::FailureReport,
    failure::{Code, Failure},
    load::{Closed, Hook, HookError, Interfaces, Loaded, Pin, StepInfo},
    rehearse::{
        LINE_CLOSED, Limits, Measured, Record, Request, RowsWay, Said, StateWay, Step, WayBack, confine,
        read_request, rows_from_bytes,
    },
    service::{Directory, ServiceLimits, Serving, Tables},
    state::{
        chain::{self, MigratePolicy, NoPath, Plan},
        envelope::Envelope,
    },
    table::{Limits as TableLimits, SampleRow, VALUE_BYTES_MAX},
    table_store::TableStoreOptions,
};
use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long an unload waits for what still runs of the plugin.
const UNLOAD_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long `stop` is told that it has.
const STOP_WITHIN_NS: u64 = 10_000_000_000;
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
    let (request, line) = match read_request() {
        Ok(read) => read,
        Err(error) => {
            // There may be nobody to read it.
            let _ = writeln!(io::stderr(), "this is for a host, which says what to rehearse: {error}");
            return ExitCode::from(2);
        }
    };
    // As the host's own hooks run: on a thread with the stack that threads have.
    let hooks = thread::Builder::new().name("replug-hooks".to_owned()).spawn(move || {
        let mut stage = Stage { line, limits: request.limits, own: BTreeMap::new(), at: Step::Confine };
        let record = match stage.rehearse(&request) {
            Ok(()) => Record::Done,
            Err(Stopped(said)) => Record::Refused { step: stage.at, said },
        };
        stage.say(&record);
        // SAFETY: ends the process. Nothing of the plugin runs any more: neither its
        // destructors, nor those of what it has left behind.
        unsafe { libc::_exit(0) }
    });
    // It ends the process, or has panicked, which it has said.
    let _ = hooks.map(thread::JoinHandle::join);
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
    fn rehearse(&mut self, request: &Request) -> Result<(), Stopped> {
        let Set { candidate, before, directory, state, rows } =
            self.step(Step::Confine, |stage| stage.set(request))?;
        let opened = self.step(Step::Load, |_| Ok(start::open(candidate, &directory, &nobody_waits())?))?;
        let config = request.config.as_str();
        let serving = self.step(Step::Prepare, |_| Ok(start::prepared(opened, &directory, config)?))?;
        let had_state = before.as_ref().is_some_and(|before| before.manifest.state.snapshot);
        if had_state && !serving.manifest().state.snapshot {
            return Err(DeployError::Model { from: "snapshot", to: "stateless" }.into());
        }
        if serving.manifest().state.snapshot {
            let (old, state) = match before {
                Some(before) => self.step(Step::Before, |stage| {
                    let old = start::open(before, &directory, &nobody_waits())
                        .and_then(|opened| start::prepared(opened, &directory, config));
                    let old = old.map_err(|failed| Stopped::from(failed).of_before())?;
                    let state = state.map_or_else(|| stage.first_state_of(&old), |state| Ok(Some(state)));
                    Ok((Some(old), state.map_err(Stopped::of_before)?))
                })?,
                None => (None, state),
            };
            if let Some(state) = state {
                self.rehearse_state(&serving, old.as_ref(), &state)?;
            }
            // It stays where it is: its own unload was rehearsed when it was new.
            std::mem::forget(old);
        }
        if !rows.is_empty() {
            self.step(Step::Rows, |stage| stage.rehearse_rows(&serving, &rows))?;
        }
        self.step(Step::SelfTest, |_| ran(serving.hook(Hook::SelfTest)))?;
        self.end(serving)
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
        let options = TableStoreOptions { accept_loss: true, witnesses: None };
        let tables = Tables::new(TABLE_LIMITS, request.scratch.join("tables"), options);
        let directory = Arc::new(Directory::new(CALL_LIMITS, Interfaces::default(), tables));
        directory.tables.load(&candidate.id.name).map_err(DeployError::from)?;
        let protections = confine(&request.limits, &request.scratch, request.host);
        let protections =
            protections.map_err(|error| Stopped::host("the child cannot confine itself", &error))?;
        self.say(&Record::Confined { protections });
        self.own = descriptors();
        Ok(Set { candidate, before, directory, state, rows })
    }

    /// What a new instance of the version before gives.
    fn first_state_of(&self, old: &Serving) -> Result<Option<Envelope>, Stopped> {
        if !old.manifest().state.snapshot {
            return Ok(None);
        }
        let bytes_max = usize::try_from(self.limits.state_bytes).unwrap_or(usize::MAX);
        Ok(Some(state::envelope(old, ran(old.export(bytes_max))?)))
    }

    /// The way of the state into the version, and back. `old`, the version before, converts
    /// it on the way down, and reads it when it has come back.
    fn rehearse_state(
        &mut self,
        new: &Serving,
        old: Option<&Serving>,
        state: &Envelope,
    ) -> Result<(), Stopped> {
        let bytes_max = usize::try_from(self.limits.state_bytes).unwrap_or(usize::MAX);
        let (from, to) = (state.schema_version, new.manifest().schema_version);
        let converter = old.filter(|_| from > to).unwrap_or(new);
        let is_down = from > to;
        let of_converter = |stopped: Stopped| if is_down { stopped.of_before() } else { stopped };
        let (schema, payload) = self.step(Step::Migrate, |_| {
            let plan = plan(from, to, converter.steps()).map_err(DeployError::from)?;
            let converted = converted(converter, &plan, (from, to), &state.payload, bytes_max);
            let (schema, payload) = converted.map_err(|error| of_converter(error.into()))?;
            // As the host tries it beside calls.
            ran(new.loaded().read(schema, payload.as_deref().unwrap_or(&state.payload)))?;
            // With callers waiting, a version that can makes the steps as it restores.
            let by_itself = !is_down && payload.is_some() && new.loaded().restores_earlier_schemas();
            Ok(if by_itself { (from, None) } else { (schema, payload) })
        })?;
        let payload = payload.as_deref().unwrap_or(&state.payload);
        self.step(Step::Restore, |_| ran(new.restore(schema, payload)))?;
        let after = self.step(Step::Export, |_| ran(new.export(bytes_max)))?;
        let way_back = match (from.cmp(&to), plan(to, from, new.steps())) {
            (Equal, _) => WayBack::Unchanged,
            (Greater, _) => WayBack::NotTried,
            (Less, Err(none)) => WayBack::None { reason: none.to_string() },
            (Less, Ok(plan)) => self.step(Step::MigrateBack, |_| {
                let (_, back) = converted(new, &plan, (to, from), &after, bytes_max)?;
                let back = back.as_deref().unwrap_or(&after);
                if let Some(old) = old.filter(|old| old.manifest().schema_version == from) {
                    ran(old.loaded().read(from, back))?;
                }
                Ok(WayBack::Steps { bytes: back.len() as u64, same: back == state.payload })
            })?,
        };
        let (bytes_before, bytes_after) = (state.payload.len() as u64, after.len() as u64);
        let way = StateWay { from_schema: from, to_schema: to, bytes_before, bytes_after, way_back };
        self.say(&Record::State { way });
        Ok(())
    }

    /// Has the version bring rows of earlier schemas to its own, and give what an earlier
    /// version reads of them. A row that it cannot convert refuses it: it would stay as it
    /// is, and be an error to whoever reads it.
    fn rehearse_rows(&mut self, new: &Serving, tables: &[(String, Vec<SampleRow>)]) -> Result<(), Stopped> {
        for (table, rows) in tables {
            let Some(own) = new.table_schema(table) else { continue };
            let mut way =
                RowsWay { table: table.clone(), rows: rows.len() as u64, converted: 0, way_back: 0 };
            for SampleRow { schema, value } in rows.iter().filter(|row| row.schema < own) {
                let convert = |image| ran(new.convert_row(table, value, (*schema, image), VALUE_BYTES_MAX));
                let with_image = convert(*schema)?;
                way.way_back += u64::from(with_image.is_some());
                let converted = with_image.map_or_else(|| convert(0), |row| Ok(Some(row)))?;
                way.converted += u64::from(converted.is_some());
            }
            self.say(&Record::Rows { rows: way });
        }
        Ok(())
    }

    /// Stops, drops and unloads the version, and proves that.
    fn end(&mut self, serving: Serving) -> Result<(), Stopped> {
        self.step(Step::Stop, |_| ran(serving.stop(monotonic_ns().saturating_add(STOP_WITHIN_NS))))?;
        self.step(Step::Drop, |_| {
            // SAFETY: it was never published, and only this thread knows of it.
            let dropped = unsafe { serving.destroy() };
            serving.tables().leave();
            ran(dropped)
        })?;
        self.step(Step::Unload, |_| {
            let loaded = serving.into_loaded();
            // SAFETY: the instance is gone, so this thread does not enter it again.
            unsafe { loaded.detach_thread() };
            close(loaded).map_err(|pins| {
                Stopped(Said::Resident { pins: pins.iter().map(ToString::to_string).collect() })
            })
        })
    }

    /// Does a step, and says so before and after it.
    fn step<T>(
        &mut self,
        step: Step,
        does: impl FnOnce(&mut Stage) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        self.at = step;
        self.say(&Record::Enter { step });
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
            process::exit(LINE_CLOSED);
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

fn plan(from: u32, to: u32, steps: &[StepInfo]) -> Result<Plan, NoPath> {
    let policy = MigratePolicy::Migrate;
    chain::plan(&chain::Request { from, to, steps, policy, has_older_snapshot: false, allow_loss: false })
}

/// The schema and the bytes that state has after its way; none where they are the same.
fn converted(
    converter: &Serving,
    plan: &Plan,
    (from, to): (u32, u32),
    bytes: &[u8],
    bytes_max: usize,
) -> Result<(u32, Option<Vec<u8>>), DeployError> {
    Ok(match state::convert(converter, plan, from, to, bytes, bytes_max)? {
        Converted::AsItIs(schema) => (schema, None),
        Converted::Bytes(schema, bytes) => (schema, Some(bytes)),
        Converted::Left => (from, None),
    })
}

/// Unmaps the library, and waits for what keeps it, for a moment.
fn close(mut loaded: Loaded) -> Result<(), Vec<Pin>> {
    let begun = Instant::now();
    while begun.elapsed() < UNLOAD_WITHIN && !(loaded.threads().count() == 0 && loaded.door().shut()) {
        thread::sleep(LOOK_EVERY); // sleep: threads of the plugin tell nobody when they have ended
    }
    loop {
        // SAFETY: the instance is destroyed and this thread has detached; threads of the
        // plugin are looked for by `close`.
        let pins = match unsafe { loaded.close() } {
            Closed::Unmapped(_) => return Ok(()),
            Closed::Lingering { pins, .. } => return Err(pins),
            Closed::Pinned { loaded: back, pins } => {
                loaded = *back;
                pins
            }
        };
        if begun.elapsed() >= UNLOAD_WITHIN {
            // It stays mapped: the process ends.
            std::mem::forget(loaded);
            return Err(pins);
        }
        thread::sleep(LOOK_EVERY); // sleep: as above
    }
}

/// The one that waits, and the one that runs hooks.
const OWN_THREADS: u64 = 2;

/// In KiB, and threads beside the child's own.
fn memory_and_threads() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (number("VmRSS:"), number("Threads:").saturating_sub(OWN_THREADS))
}

/// The open files of this process by number, with what each is; none if there is no room
/// for one more.
fn descriptors() -> BTreeMap<String, PathBuf> {
    let Ok(folder) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let named = folder.flatten().filter_map(|entry| {
        // But for this very folder.
        let what = fs::read_link(entry.path()).ok().filter(|what| !what.starts_with("/proc"))?;
        Some((entry.file_name().to_string_lossy().into_owned(), what))
    });
    named.collect()
}
