//! The rehearsal by hand: of any file, against what serves or against another file.

use super::{
    control::{Command, Control},
    error::HostError,
    handle::Host,
    options::HostBuilder,
    waiting::Checking,
};
use crate::{
    artifact::inspect::{Hazard, Manifest},
    event::FailureReport,
    id::Digest,
    pipeline::{self, DeployError, ReadError, read_manifest},
    rehearse::{self, Library, Rehearsal, RehearsalError, Report, Subject, Upgrade},
    state::{envelope::Envelope, store::StoreError},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// What a file is checked against. Nothing of it has to be there.
#[derive(Debug, Clone, Default)]
pub struct CheckWith {
    /// The library that it takes the place of. Without a `state` the one that a new
    /// instance of that one gives is taken over.
    pub before: Option<PathBuf>,
    /// A saved state, as a host exports it.
    pub state: Option<Vec<u8>>,
}

/// What a check has found.
#[derive(Debug)]
pub struct Checked {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// What may make it hard to unload.
    pub hazards: Vec<Hazard>,
    /// What was done, and what it took.
    pub report: Report,
    /// Whether a host would deploy it, as far as a rehearsal can tell.
    pub verdict: Result<(), RehearsalError>,
}

impl HostBuilder {
    /// Rehearses a file as a host with these options would, without one: in a child that
    /// writes below `folder` only, which has to be on a file system that allows execution.
    /// Blocks until the child has ended. Whom the file comes from is not asked.
    ///
    /// ```no_run
    /// use replug_host::{CheckWith, Host, rehearse::Rehearsal};
    ///
    /// let rehearsal = Rehearsal::by("/usr/bin/replug").arg("rehearse");
    /// let options = Host::builder("plugins");
    /// let checked = options.check("markdown-2.0.0.so", &rehearsal, CheckWith::default(), "/tmp/check")?;
    /// for done in &checked.report.steps {
    ///     println!("{} {} us", done.step.as_str(), done.measured.micros);
    /// }
    /// checked.verdict?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`HostError::Failed`]: it cannot be read, or is no plugin for this host; or the state
    /// is none. That it does not pass is no error, but the [verdict](Checked::verdict).
    pub fn check(
        &self,
        file: impl AsRef<Path>,
        rehearsal: &Rehearsal,
        with: CheckWith,
        folder: impl AsRef<Path>,
    ) -> Result<Checked, HostError> {
        can_be_held(rehearsal)?;
        let file = file.as_ref();
        let failed = |error: ReadError| HostError::Failed(FailureReport::of(&error));
        let (manifest, hazards) = read_manifest(file).map_err(failed)?;
        let bytes = fs::read(file);
        let bytes = bytes.map_err(|source| failed(ReadError::Io { path: file.to_owned(), source }))?;
        let CheckWith { before, state } = with;
        let config = self.configs.get(manifest.name.as_str());
        let upgrade = Upgrade {
            before: before.map(Library::Named),
            config: config.map(ToString::to_string).unwrap_or_default(),
            state: opened(state.as_deref(), &manifest, self).map_err(HostError::Failed)?,
            rows: Vec::new(),
            calls: Vec::new(),
            bounds: self.bounds(),
            interfaces: self.wanted_interfaces(),
            absent: Vec::new(),
        };
        let subject =
            Subject { library: Library::Named(file.to_owned()), digest: Digest::of(&bytes), upgrade };
        let (report, verdict) = rehearse::run(rehearsal, subject, folder.as_ref(), &AtomicBool::new(false));
        Ok(Checked { manifest, hazards, report, verdict })
    }
}

/// Refuses limits with which nothing could be rehearsed.
fn can_be_held(rehearsal: &Rehearsal) -> Result<(), HostError> {
    let refused = |reason| HostError::Option { option: "rehearsal", reason };
    rehearsal.contradiction().map_or(Ok(()), |reason| Err(refused(reason)))
}

/// A state that was handed in for a version of this plugin.
fn opened(
    state: Option<&[u8]>,
    new: &Manifest,
    options: &HostBuilder,
) -> Result<Option<Envelope>, FailureReport> {
    let Some(bytes) = state else { return Ok(None) };
    let opened = Envelope::open(bytes, options.state_bytes_max as u64);
    let state = opened.map_err(|error| FailureReport::of(&error))?;
    if state.plugin != new.name.as_str() {
        let (wanted, found) = (new.name.as_str().to_owned(), state.plugin);
        return Err(FailureReport::of(&StoreError::Foreign { wanted, found }));
    }
    Ok(Some(state))
}

impl Host {
    /// Rehearses a file as if it were dropped now: against the version that serves, with
    /// its configuration, its state (or `state`, as a host exports it), some of its rows and
    /// the calls that are [kept](HostBuilder::keep_calls). Nothing is deployed, and nothing
    /// is told as an event. Whom the file comes from is asked as for one that is dropped.
    /// Blocks this thread until the child has ended.
    ///
    /// # Errors
    /// [`HostError::Failed`]: it cannot be read, is no plugin for this host, or nobody
    /// vouches for it; or the state is none. [`HostError::Busy`], [`HostError::Stopped`].
    /// That it does not pass is no error, but the [verdict](Checked::verdict).
    pub fn check(
        &self,
        file: impl Into<PathBuf>,
        rehearsal: &Rehearsal,
        state: Option<Vec<u8>>,
    ) -> Result<Checked, HostError> {
        can_be_held(rehearsal)?;
        let file = file.into();
        let (turns, stop) = self.rehearsals();
        // First: what is asked for then may be large.
        let Some(_turn) = turns.take(stop) else { return Err(HostError::Stopped) };
        let checking = self.ask(|done| Command::Check { file, state, done }).wait()?;
        let Checking { candidate, upgrade, folder, lock: _lock } = *checking;
        let library = Library::Ours(candidate.staged.copy.clone());
        let subject = Subject { library, digest: candidate.id.digest, upgrade };
        let (report, verdict) = rehearse::run(rehearsal, subject, &folder, stop);
        let (manifest, hazards) = ((*candidate.manifest).clone(), candidate.hazards.clone());
        Ok(Checked { manifest, hazards, report, verdict })
    }
}

impl Control {
    /// What a check of a file takes.
    pub(super) fn begin_check(
        &mut self,
        file: &Path,
        state: Option<&[u8]>,
    ) -> Result<Box<Checking>, FailureReport> {
        let failed = |error: DeployError| FailureReport::of(&error);
        let staged = self.stager.stage(file).map_err(|error| failed(error.into()))?;
        let mut candidate = pipeline::inspect(staged).map_err(failed)?;
        pipeline::judge(&mut candidate, &self.shared.trust()).map_err(failed)?;
        let state = opened(state, &candidate.manifest, &self.options)?;
        let upgrade = self.upgrade_to(&candidate.manifest, state);
        let (folder, lock) = (self.rehearsals.clone(), Arc::clone(&self.lock));
        Ok(Box::new(Checking { candidate, upgrade, folder, lock }))
    }
}
