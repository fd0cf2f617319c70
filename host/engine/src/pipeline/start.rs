//! From a candidate to a version that could serve: load, shake hands, prepare.

use super::{
    candidate::Candidate,
    error::DeployError,
    worker::{Progress, Worker},
};
use crate::{
    dispatch::{MAX_VERSIONS, Version},
    load::{Hook, Loaded},
    service::{Directory, PluginContext, Serving},
};
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

/// A candidate could not be started. Its library, if it was loaded, has to be
/// unloaded.
pub(crate) struct NotStarted {
    pub(crate) error: DeployError,
    pub(crate) library: Option<Box<Loaded>>,
}

impl From<DeployError> for NotStarted {
    fn from(error: DeployError) -> Self {
        NotStarted { error, library: None }
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
    let progress = Progress::at(Hook::Prepare);
    let inside = progress.clone();
    let (serving, load_time, prepare_time) = worker
        .run(&progress, move || load_and_prepare(candidate, &directory, &config, &inside))
        .map_err(|error| NotStarted::from(DeployError::from(error)))??;
    let version = Version::new(serving).map_err(|exhausted| {
        let (loaded, dropped) = exhausted.payload.destroy();
        if let Err(error) = dropped {
            tracing::warn!(plugin = loaded.name(), %error, "a refused version did not drop cleanly");
        }
        NotStarted { error: DeployError::Exhausted { count: MAX_VERSIONS }, library: Some(Box::new(loaded)) }
    })?;
    Ok(Started { version, load_time, prepare_time })
}

fn load_and_prepare(
    candidate: Candidate,
    directory: &Arc<Directory>,
    config: &str,
    progress: &Progress,
) -> Result<(Serving, Duration, Duration), NotStarted> {
    let Candidate { id, manifest, staged, .. } = candidate;
    let begun = Instant::now();
    let mut loaded = Loaded::open(staged.copy).map_err(DeployError::from)?;
    let load_time = begun.elapsed();
    let noted = format!("{}@{}", id.name, id.version);
    let found = format!("{}@{}", loaded.name(), loaded.version());
    if noted != found {
        let error = DeployError::Identity { noted, found };
        return Err(NotStarted { error, library: Some(Box::new(loaded)) });
    }
    progress.enter(Hook::Prepare);
    let begun = Instant::now();
    let keep = PluginContext::new(directory, &id);
    let context = keep.as_host_context();
    let prepared = loaded.prepare(context, keep, config);
    // This thread is outside the plugin again, and not known to dispatch yet.
    loaded.detach_thread();
    match prepared {
        Ok(instance) => {
            // SAFETY: the instance was made by this library just now.
            let serving = unsafe { Serving::new(id, manifest, loaded, instance) };
            Ok((serving, load_time, begun.elapsed()))
        }
        Err(error) => Err(NotStarted { error: error.into(), library: Some(Box::new(loaded)) }),
    }
}
