//! What the watch reports: files that are complete, files that are gone, and
//! how well it can see.

use super::{
    control::Control,
    options::SameVersion,
    untrusted::{Judged, Verdict},
    versions::{Added, Arrival, Present, Removed, Versions},
};
use crate::{
    artifact::{
        stage::StageError,
        trust::{self, Voucher},
        watch::{self, Report, Watcher},
    },
    clock::monotonic_ns,
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::{self, Candidate, DeployError},
};
use semver::Version;
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a file that changes while it is copied is tried again before that
/// is reported.
const UNSTEADY_TRIES_MAX: u32 = 20;

/// The pause before a watch that ended is started again.
const REWATCH_PAUSE: Duration = Duration::from_secs(1);

impl Control {
    pub(super) fn take_report(&mut self, report: Report) {
        self.first_files.hear(&report);
        match report {
            Report::Candidate(file) => self.take_file(&file),
            Report::Gone { path } => self.file_gone(&path),
            Report::Mode(mode) => {
                let directory = self.watcher.directory().display().to_string();
                self.shared.event(None, EventKind::Watching { directory, mode: mode.to_string() });
            }
            Report::Held { path, unchanged_for } => {
                let message = format!(
                    "{} has not changed for {} ms, but a writer keeps it open",
                    path.display(),
                    unchanged_for.as_millis()
                );
                self.refused(&path, FailureReport::with_code(Code::StageChanging, message));
            }
            Report::TooManyFiles { limit } => {
                let directory = self.watcher.directory().display();
                let message = format!("{directory} holds more than {limit} files; the rest is not watched");
                self.problem(Code::WatchDirectory, message);
            }
            // The candidates that the scan finds follow as reports.
            Report::Rescanned { cause, files } => {
                tracing::debug!(?cause, files, "scanned the plugin directory")
            }
        }
    }

    fn refused(&self, path: &Path, failure: FailureReport) {
        self.shared.event(None, EventKind::Refused { path: path.display().to_string(), failure });
    }

    fn file_gone(&mut self, path: &Path) {
        self.unsteady.remove(path);
        self.trust_no_more(path);
        self.not_stored.forget(path);
        let removed = self.shared.catalog().remove(path, Instant::now());
        self.follow_up(path, removed);
    }

    /// Nobody is asked any more whether a file is trusted. Whether it was not.
    fn trust_no_more(&mut self, path: &Path) -> bool {
        self.shared.catalog().remove_untrusted(path);
        self.untrusted.forget(path)
    }

    /// A file holds nothing usable any more.
    fn file_spoiled(&mut self, path: &Path, failure: FailureReport) {
        let removed = self.shared.catalog().spoil(path, Instant::now());
        self.refused(path, failure);
        self.follow_up(path, removed);
    }

    fn follow_up(&self, path: &Path, removed: Removed) {
        match removed {
            Removed::Gone(id) => {
                self.shared.event(Some(&id), EventKind::Gone { path: path.display().to_string() });
                self.tell_out_of_reach(&id.name);
            }
            Removed::ReadInstead(other) => self.watcher.report_again(&other),
            Removed::Nothing => {}
        }
    }

    /// Copies and reads a file, and notes what it is.
    fn take_file(&mut self, file: &watch::Candidate) {
        let noticed_ns = u64::try_from(file.noticed.as_nanos()).unwrap_or(u64::MAX);
        let mut arrival = Arrival { noticed_ns, taken_ns: monotonic_ns(), ..Arrival::default() };
        let staged = match self.stager.stage(&file.path) {
            Ok(staged) => staged,
            Err(error) => return self.not_staged(&file.path, &error),
        };
        self.unsteady.remove(&file.path);
        self.not_stored.forget(&file.path);
        arrival.staged_ns = monotonic_ns();
        let mut candidate = match pipeline::inspect(staged) {
            Ok(candidate) => candidate,
            Err(error) => {
                self.trust_no_more(&file.path);
                return self.file_spoiled(&file.path, FailureReport::of(&error));
            }
        };
        arrival.inspected_ns = monotonic_ns();
        // Before it is read: another that comes meanwhile is noticed.
        let seen = trust::seen(&file.path);
        if let Err(error) = pipeline::judge(&mut candidate, &self.shared.trust()) {
            return self.not_trusted(&candidate, seen, &error);
        }
        let was_untrusted = self.untrusted.forget(&file.path);
        self.vouch_for(&candidate.id, &candidate.voucher);
        for hazard in &candidate.hazards {
            tracing::warn!(version = %candidate.id, ?hazard, "the library may be hard to unload");
        }
        if !self.may_replace_twin(&candidate) {
            self.trust_no_more(&file.path);
            return;
        }
        let (id, voucher) = (candidate.id.clone(), candidate.voucher.clone());
        let (added, read_too, wanted, later) = {
            let mut catalog = self.shared.catalog();
            let (added, read_too) = catalog.add(candidate, arrival);
            // Now that it stands there otherwise.
            catalog.remove_untrusted(&file.path);
            let (mut wanted, mut later) = (None, None);
            if let Some(versions) = catalog.get_mut(id.name.as_str()) {
                if was_untrusted {
                    versions.is_trusted_again(&id);
                }
                wanted = versions.wanted().map(|wanted| wanted.id.clone());
                later = versions.is_older_than(&id).cloned();
            }
            (added, read_too, wanted, later)
        };
        if let Some(other) = read_too {
            self.watcher.report_again(&other);
        }
        if added == Added::Known {
            return;
        }
        let vouched_by = (voucher != Voucher::Nobody).then(|| voucher.to_string());
        self.shared.event(Some(&id), EventKind::Found { path: file.path.display().to_string(), vouched_by });
        match (later, wanted.filter(|wanted| *wanted != id)) {
            (Some(later), _) => {
                self.refused(&file.path, is_older(&id, &later));
            }
            (None, Some(wanted)) => self.superseded(&id, &wanted),
            (None, None) => {}
        }
    }

    /// With the file that went, nothing is wanted: what there is is older, and does not
    /// serve by itself.
    fn tell_out_of_reach(&self, name: &PluginName) {
        let out_of_reach: Vec<(PathBuf, FailureReport)> = {
            let catalog = self.shared.catalog();
            let versions = catalog.get(name.as_str());
            let older = |versions: &Versions, present: &Present| {
                let later = versions.is_older_than(&present.id)?;
                Some((present.path.clone(), is_older(&present.id, later)))
            };
            let present = versions.into_iter().flat_map(|versions| {
                versions.out_of_reach().into_iter().filter_map(|present| older(versions, present))
            });
            present.collect()
        };
        for (path, failure) in out_of_reach {
            self.refused(&path, failure);
        }
    }

    fn superseded(&self, id: &VersionId, by: &VersionId) {
        let failure = FailureReport::with_code(Code::DeploySuperseded, format!("{by} is wanted instead"));
        self.shared.event(Some(id), EventKind::Superseded { by: by.to_string(), failure });
    }

    /// Other bytes under the version that serves, or that the version names for good:
    /// whether they may replace them.
    fn may_replace_twin(&self, candidate: &Candidate) -> bool {
        let (id, path) = (&candidate.id, &candidate.staged.source);
        let (serving, known) = {
            let catalog = self.shared.catalog();
            let serving = catalog.get(id.name.as_str()).and_then(|versions| versions.serving_twin(id));
            (serving.cloned(), catalog.twin(id, path))
        };
        let (twin, stands) = match (serving, known) {
            (Some(twin), _) => (twin, "serves"),
            (None, Some(twin)) => (twin, "is what that version names here"),
            (None, None) => return true,
        };
        if self.options.same_version == SameVersion::Replace {
            self.superseded(&twin, id);
            return true;
        }
        let message =
            format!("{} holds {id}, but {twin} {stands}: the same version with other bytes", path.display());
        let removed = self.shared.catalog().spoil(path, Instant::now());
        self.refused(path, FailureReport::with_code(Code::DeploySameVersion, message));
        self.follow_up(path, removed);
        false
    }

    /// A file that changed under the copy is looked at again, a bounded number
    /// of times: no further event may come. Where the private store is what
    /// fails, it is tried again later. Any other refusal stands until the file
    /// changes.
    fn not_staged(&mut self, path: &Path, error: &StageError) {
        if matches!(error, StageError::Changing { .. }) {
            let tries = self.unsteady.entry(path.to_owned()).or_default();
            *tries += 1;
            if *tries <= UNSTEADY_TRIES_MAX {
                return self.watcher.report_again(path);
            }
        }
        self.unsteady.remove(path);
        match error {
            StageError::NotRegular { .. } | StageError::Empty { .. } | StageError::TooLarge { .. } => {
                self.trust_no_more(path);
                self.file_spoiled(path, FailureReport::of(error));
            }
            StageError::Store { .. } => {
                self.not_stored.failed(path.to_owned(), Instant::now());
                self.refused(path, FailureReport::of(error));
            }
            // What the file holds is not known.
            _ => self.refused(path, FailureReport::of(error)),
        }
    }

    /// A signature may come after its file, or take the place of the one before.
    fn not_trusted(&mut self, candidate: &Candidate, seen: trust::Seen, error: &DeployError) {
        let (path, failure) = (&candidate.staged.source, FailureReport::of(error));
        let patience = match error {
            DeployError::Trust(error) => self.shared.trust().patience(error),
            _ => Duration::ZERO,
        };
        let metadata = &candidate.staged.metadata;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let judged = (Judged { digest: candidate.id.digest, changed }, seen);
        self.shared.catalog().add_untrusted(path, &candidate.id);
        match self.untrusted.put(path, judged, patience, Instant::now(), &failure) {
            Verdict::Refuse => self.file_spoiled(path, failure),
            Verdict::Wait(time) => {
                let path = path.display().to_string();
                let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                self.shared.event(Some(&candidate.id), EventKind::AwaitsSignature { path, for_ms, failure });
            }
            Verdict::GoOn => {}
        }
    }

    /// Files beside which something has changed are read again; those that have waited
    /// long enough are refused.
    pub(super) fn look_for_signatures(&mut self, now: Instant) {
        let (changed, overdue) = self.untrusted.look(now);
        changed.iter().for_each(|path| self.watcher.report_again(path));
        for (path, failure) in overdue {
            self.file_spoiled(&path, failure);
        }
    }

    /// Files that found no room in the private store are looked at again.
    pub(super) fn store_again(&mut self, now: Instant) {
        for path in self.not_stored.end_pauses(now) {
            self.watcher.report_again(&path);
        }
    }

    /// The watch's thread has ended, which only a defect of it can do. What
    /// serves is not touched.
    pub(super) fn watch_ended(&mut self) {
        let directory = self.watcher.directory().display();
        let message = format!("the watch of {directory} ended by itself; it is started again");
        self.problem(Code::WatchDirectory, message);
        self.rewatch_at = Some(Instant::now() + REWATCH_PAUSE);
    }

    /// Starts a watch that ended again, when it is time. It reports every file
    /// there is; those that went away meanwhile are found here.
    pub(super) fn watch_again(&mut self, now: Instant) {
        if self.rewatch_at.is_none_or(|at| at > now) {
            return;
        }
        match Watcher::start(self.watcher.directory(), self.options.watch.clone()) {
            Err(error) => {
                tracing::error!(%error, "the plugin directory is not watched");
                self.rewatch_at = Some(now + REWATCH_PAUSE);
            }
            Ok(watcher) => {
                self.shared.watch_by(watcher.mode_reader());
                self.watcher = watcher;
                self.rewatch_at = None;
                let is_gone = |path: &&Path| matches!(path.try_exists(), Ok(false));
                let files: Vec<PathBuf> = self.shared.catalog().files().map(Path::to_owned).collect();
                let untrusted = self.untrusted.paths().map(Path::to_owned);
                let gone: Vec<PathBuf> =
                    files.into_iter().chain(untrusted).filter(|path| is_gone(&path.as_path())).collect();
                gone.iter().for_each(|path| self.file_gone(path));
            }
        }
    }
}

fn is_older(id: &VersionId, later: &Version) -> FailureReport {
    FailureReport::with_code(Code::TrustOlder, format!("{id} is older than {later}, which has served here"))
}
