//! From a candidate to a version that could serve: load, shake hands, prepare.

use super::{
    candidate::Candidate,
    error::DeployError,
    worker::{Overdue, Party, Progress, Worker},
};
use crate::{
    dispatch::{MAX_VERSIONS, Version},
    load::{Hook, Loaded},
    service::{Directory, PluginContext, Serving},
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
    /// A hook has not returned. What there is comes when it does.
    Hanging(Hook, Receiver<Prepared>),
}

/// A library with its instance, and how long loading and preparing took.
pub(crate) type Prepared = Result<(Serving, Duration, Duration), NotStarted>;

impl From<DeployError> for NotStarted {
    fn from(error: DeployError) -> Self {
        NotStarted { error: Box::new(error), left: None }
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
) -> Result<Started, NotStarted> {
    candidate.apply_patch()?;
    let directory = Arc::clone(directory);
    let progress = Progress::at(Party::Candidate, Hook::Prepare);
    let inside = progress.clone();
    let (serving, load_time, prepare_time) =
        worker.run(&progress, move || load_and_prepare(candidate, &directory, &config, &inside))??;
    let version = Version::new(serving).map_err(|exhausted| {
        let (loaded, dropped) = exhausted.payload.destroy();
        if let Err(error) = dropped {
            tracing::warn!(plugin = loaded.name(), %error, "a refused version did not drop cleanly");
        }
        NotStarted::with(loaded, DeployError::Exhausted { count: MAX_VERSIONS })
    })?;
    Ok(Started { version, load_time, prepare_time })
}

fn load_and_prepare(
    candidate: Candidate,
    directory: &Arc<Directory>,
    config: &str,
    progress: &Progress,
) -> Prepared {
    let Candidate { id, manifest, staged, .. } = candidate;
    let begun = Instant::now();
    let mut loaded = Loaded::open(staged.copy).map_err(DeployError::from)?;
    let load_time = begun.elapsed();
    let noted = format!("{}@{}", id.name, id.version);
    let found = format!("{}@{}", loaded.name(), loaded.version());
    if noted != found {
        return Err(NotStarted::with(loaded, DeployError::Identity { noted, found }));
    }
    let steps = if manifest.state.snapshot { loaded.steps() } else { Ok(Vec::new()) };
    let steps = match steps.and_then(|steps| {
        progress.enter(Party::Candidate, Hook::Prepare)?;
        Ok(steps)
    }) {
        Ok(steps) => steps,
        Err(error) => {
            loaded.detach_thread();
            return Err(NotStarted::with(loaded, error));
        }
    };
    let begun = Instant::now();
    let keep = PluginContext::new(directory, &id, loaded.door());
    let context = keep.as_host_context();
    let prepared = loaded.prepare(context, keep, config);
    // This thread is outside the plugin again, and not known to dispatch yet.
    loaded.detach_thread();
    match prepared {
        Ok(instance) => {
            // SAFETY: the instance was made by this library just now.
            let serving = unsafe { Serving::new(id, manifest, steps, loaded, instance) };
            Ok((serving, load_time, begun.elapsed()))
        }
        Err(error) => Err(NotStarted::with(loaded, error)),
    }
}
