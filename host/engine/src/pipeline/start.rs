//! From a candidate to a version that could serve: load, shake hands, prepare.

use super::{
    candidate::Candidate,
    error::DeployError,
    progress::{Party, Progress},
    worker::{Overdue, Worker},
};
use crate::{
    artifact::{inspect::Manifest, trust::Voucher},
    clock::monotonic_ns,
    dispatch::{Holder, MAX_VERSIONS, Version},
    id::VersionId,
    load::{Hook, HookError, LoadError, Loaded, NotLoaded, Pin, Remains, StepInfo, Vtables},
    service::{Directory, PluginContext, Serving, host_context},
};
use crossbeam::channel::Receiver;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A version that is prepared and not published.
pub(crate) struct Started {
    pub(crate) version: Version<Serving>,
    pub(crate) load_time: Duration,
    pub(crate) prepare_time: Duration,
}

/// A candidate could not be started.
pub(crate) struct NotStarted {
    pub(crate) error: Box<DeployError>,
    /// What of it is in memory and has to be unloaded.
    pub(crate) left: Option<Left>,
}

/// What is in memory of a candidate that could not be started.
pub(crate) enum Left {
    Library(Box<Loaded>),
    /// It was closed and stays, for these reasons.
    Closed(Box<Remains>, Vec<Pin>),
    /// A hook has not returned. What there is comes when it does.
    Hanging(Hook, Receiver<Prepared>),
}

/// What comes of a candidate.
pub(crate) type Prepared = Result<Started, NotStarted>;

impl From<DeployError> for NotStarted {
    fn from(error: DeployError) -> Self {
        NotStarted { error: Box::new(error), left: None }
    }
}

impl From<NotLoaded> for NotStarted {
    fn from(NotLoaded { error, remains }: NotLoaded) -> Self {
        NotStarted {
            error: Box::new(error.into()),
            left: remains.map(|(remains, pins)| Left::Closed(remains, pins)),
        }
    }
}

impl From<Overdue<Prepared>> for NotStarted {
    fn from(overdue: Overdue<Prepared>) -> Self {
        let hook = overdue.error.hook;
        NotStarted {
            error: Box::new(overdue.error.into()),
            left: overdue.late.map(|late| Left::Hanging(hook, late)),
        }
    }
}

impl NotStarted {
    fn with(loaded: Loaded, error: impl Into<DeployError>) -> Self {
        NotStarted { error: Box::new(error.into()), left: Some(Left::Library(Box::new(loaded))) }
    }
}

/// Loads a candidate and prepares its instance, on the worker's thread.
pub(crate) fn start(
    candidate: Candidate,
    directory: &Arc<Directory>,
    config: String,
    worker: &mut Worker,
) -> Prepared {
    candidate.apply_patch()?;
    directory.see(&candidate.id.name);
    let directory = Arc::clone(directory);
    let progress = Progress::at(Party::Candidate, Hook::Prepare);
    let inside = progress.clone();
    worker.run(&progress, move || load_and_prepare(candidate, &directory, &config, &inside))?
}

fn load_and_prepare(
    candidate: Candidate,
    directory: &Arc<Directory>,
    config: &str,
    progress: &Progress,
) -> Prepared {
    let opened = open(candidate, directory, progress)?;
    let load_time = opened.load_time;
    let begun = Instant::now();
    let serving = prepared(opened, directory, config)?;
    let prepare_time = begun.elapsed();
    let version = numbered(serving, progress)?;
    Ok(Started { version, load_time, prepare_time })
}

/// A library that fits, and has no instance yet.
pub(super) struct Opened {
    id: VersionId,
    voucher: Voucher,
    manifest: Arc<Manifest>,
    steps: Vec<StepInfo>,
    vtables: Vtables,
    loaded: Loaded,
    load_time: Duration,
}

/// Opens the private copy, on this thread, and checks that it is what it says and fits.
pub(super) fn open(
    candidate: Candidate,
    directory: &Directory,
    progress: &Progress,
) -> Result<Opened, NotStarted> {
    let Candidate { id, voucher, manifest, staged, .. } = candidate;
    let begun = Instant::now();
    let loaded = Loaded::open(staged.copy)?;
    let load_time = begun.elapsed();
    if let Some((noted, found)) = loaded.contradiction(&manifest) {
        return Err(NotStarted::with(loaded, DeployError::Identity { noted, found }));
    }
    let vtables = match directory.interfaces.find_in(&loaded) {
        Ok(vtables) => vtables,
        Err(error) => return Err(NotStarted::with(loaded, LoadError::from(error))),
    };
    match steps(&loaded, &manifest, progress) {
        Ok(steps) => Ok(Opened { id, voucher, manifest, steps, vtables, loaded, load_time }),
        Err(error) => {
            // SAFETY: no version is made of it, so no thread enters it again.
            unsafe { loaded.detach_thread() };
            Err(NotStarted::with(loaded, error))
        }
    }
}

/// Builds the instance, on this thread.
pub(super) fn prepared(
    opened: Opened,
    directory: &Arc<Directory>,
    config: &str,
) -> Result<Serving, NotStarted> {
    let Opened { id, voucher, manifest, steps, vtables, mut loaded, .. } = opened;
    let keep = PluginContext::new(directory, &id, loaded.door());
    let (context, tables) = (host_context(&keep), Arc::clone(keep.tables()));
    // SAFETY: the context points into `keep`, and its vtable is the host's own.
    match unsafe { loaded.prepare(context, keep, config) } {
        Ok(instance) => {
            tables.close();
            // SAFETY: the instance was made by this library just now.
            Ok(unsafe { Serving::new((id, voucher), manifest, steps, vtables, tables, loaded, instance) })
        }
        Err(error) => {
            // SAFETY: no version was made of it, so no thread enters it again.
            unsafe { loaded.detach_thread() };
            Err(NotStarted::with(loaded, error))
        }
    }
}

/// The migration steps on offer; none without state.
fn steps(loaded: &Loaded, manifest: &Manifest, progress: &Progress) -> Result<Vec<StepInfo>, HookError> {
    progress.enter(Party::Candidate, Hook::Steps)?;
    let steps = if manifest.state.snapshot { loaded.steps()? } else { Vec::new() };
    progress.enter(Party::Candidate, Hook::Prepare)?;
    Ok(steps)
}

/// Makes a version of it, to which this thread counts as attached: it has
/// thread-locals of the version since `prepare`, and later hooks use them too.
fn numbered(serving: Serving, progress: &Progress) -> Result<Version<Serving>, NotStarted> {
    let version = match Version::new(serving) {
        Ok(version) => version,
        Err(exhausted) => {
            let error = DeployError::Exhausted { count: MAX_VERSIONS };
            return Err(NotStarted::with(given_up(exhausted.payload, progress), error));
        }
    };
    let lease = version.lease(Holder::new("deployment", monotonic_ns()));
    if lease.enter(|_| ()).is_err() {
        // No record is left for this thread. The next hook says so, and never
        // enters the version: it is refused, and what this thread keeps of it
        // is counted as left behind.
        tracing::warn!(plugin = %version.payload().id().name, "the hook thread cannot attach to a version");
    }
    drop(lease);
    Ok(version)
}

/// Ends an instance of which no version can be made.
fn given_up(serving: Serving, progress: &Progress) -> Loaded {
    // Also when nobody waits any more: what was begun has to end.
    let _ = progress.enter(Party::Candidate, Hook::Stop);
    let stopped = serving.stop(monotonic_ns().saturating_add(STOP_WITHIN_NS));
    let _ = progress.enter(Party::Candidate, Hook::Drop);
    // SAFETY: it was never published nor leased, so nobody calls it.
    let dropped = unsafe { serving.destroy() };
    for error in [stopped, dropped].into_iter().filter_map(Result::err) {
        tracing::warn!(version = %serving.id(), %error, "a refused version did not end cleanly");
    }
    let loaded = serving.into_loaded();
    // SAFETY: the instance is gone, so no thread enters it again.
    unsafe { loaded.detach_thread() };
    loaded
}

/// How long the threads of an instance that is given up may take to end; the
/// unload waits for them as well.
const STOP_WITHIN_NS: u64 = 1_000_000_000;
