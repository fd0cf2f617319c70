//! Which versions are present, and which of them is wanted: pure bookkeeping.

use crate::{
    id::{Digest, PluginName, VersionId},
    pipeline::Candidate,
};
use semver::Version;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The versions of all plugins that are present in the plugin directory.
#[derive(Default)]
pub(super) struct Catalog {
    plugins: BTreeMap<PluginName, Versions>,
    paths: BTreeMap<PathBuf, (PluginName, Version)>,
}

/// The versions of one plugin.
#[derive(Default)]
pub(super) struct Versions {
    present: BTreeMap<Version, Present>,
    pinned: Option<Version>,
    /// What serves.
    pub(super) active: Option<VersionId>,
    /// Files that were refused; they are not tried again until they change.
    refused: BTreeSet<Digest>,
}

/// A version whose file is there.
pub(super) struct Present {
    pub(super) id: VersionId,
    pub(super) path: PathBuf,
    /// The private copy, until it is loaded or given up; a later deployment
    /// makes another.
    candidate: Option<Candidate>,
    /// When the file was noticed, and how long its first stages took.
    pub(super) arrival: Arrival,
}

/// The first stages of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrival {
    /// When the watch noticed it, in nanoseconds of the monotonic clock.
    pub(super) noticed_ns: u64,
    /// When its copy began, likewise.
    pub(super) taken_ns: u64,
    /// When its copy was there.
    pub(super) staged_ns: u64,
    /// When it was read.
    pub(super) inspected_ns: u64,
}

/// What a new file means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// A version, or other bytes of one, that was not there.
    New,
    /// The very same bytes as before.
    Known,
}

impl Catalog {
    /// A file was read.
    pub(super) fn add(&mut self, candidate: Candidate, arrival: Arrival) -> Added {
        let id = candidate.id.clone();
        let path = candidate.staged.source.clone();
        // The file may have held something else before.
        if self.paths.get(&path).is_some_and(|(name, version)| (name, version) != (&id.name, &id.version)) {
            self.remove(&path);
        }
        self.paths.insert(path.clone(), (id.name.clone(), id.version.clone()));
        let versions = self.plugins.entry(id.name.clone()).or_default();
        let known = versions.present.get(&id.version).is_some_and(|present| present.id == id);
        // Dropped again on purpose: tried again.
        versions.refused.remove(&id.digest);
        let serves = versions.active.as_ref() == Some(&id);
        let candidate = (!serves).then_some(candidate);
        versions.present.insert(id.version.clone(), Present { id, path, candidate, arrival });
        versions.keep_wanted_copy();
        if known { Added::Known } else { Added::New }
    }

    /// A file is gone; the version that it held, if it was the one.
    pub(super) fn remove(&mut self, path: &Path) -> Option<VersionId> {
        let (name, version) = self.paths.remove(path)?;
        let versions = self.plugins.get_mut(&name)?;
        if versions.present.get(&version).is_none_or(|present| present.path != path) {
            return None;
        }
        let present = versions.present.remove(&version)?;
        if versions.pinned.as_ref() == Some(&version) {
            versions.pinned = None;
        }
        Some(present.id)
    }

    pub(super) fn names(&self) -> Vec<PluginName> {
        self.plugins.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Versions> {
        self.plugins.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Versions> {
        self.plugins.get_mut(name)
    }
}

impl Versions {
    /// The version that should serve: the pinned one, else the highest that was
    /// not refused.
    pub(super) fn wanted(&self) -> Option<&Present> {
        if let Some(pinned) = &self.pinned {
            return self.present.get(pinned).filter(|present| !self.refused.contains(&present.id.digest));
        }
        self.present.values().rev().find(|present| !self.refused.contains(&present.id.digest))
    }

    /// Takes the wanted version's private copy, if there still is one.
    pub(super) fn take_candidate(&mut self, id: &VersionId) -> Option<Candidate> {
        self.present.get_mut(&id.version).filter(|present| present.id == *id)?.candidate.take()
    }

    pub(super) fn pin(&mut self, version: Option<Version>) {
        if let Some(version) = &version
            && let Some(present) = self.present.get(version)
        {
            self.refused.remove(&present.id.digest);
        }
        self.pinned = version;
    }

    pub(super) fn pinned(&self) -> Option<&Version> {
        self.pinned.as_ref()
    }

    pub(super) fn refuse(&mut self, id: &VersionId) {
        self.refused.insert(id.digest);
    }

    pub(super) fn is_refused(&self, id: &VersionId) -> bool {
        self.refused.contains(&id.digest)
    }

    pub(super) fn present(&self) -> impl DoubleEndedIterator<Item = &Present> {
        self.present.values()
    }

    pub(super) fn find(&self, version: &Version) -> Option<&Present> {
        self.present.get(version)
    }

    /// Only the version that is wanted keeps its private copy.
    fn keep_wanted_copy(&mut self) {
        let wanted = self.wanted().map(|present| present.id.clone());
        for present in self.present.values_mut() {
            if Some(&present.id) != wanted.as_ref() {
                present.candidate = None;
            }
        }
    }
}
