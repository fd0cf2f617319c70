//! Which versions are present, and which of them is wanted: pure bookkeeping.
//!
//! A version is present while a file holds it. A file that was overwritten by
//! something unusable still stands for its version, which is then not deployed
//! from it: what serves is never taken away by a bad file.

use super::{
    choices::Choice,
    versions::{Added, Arrival, Removed, Versions},
};
use crate::{
    id::{PluginName, VersionId},
    pipeline::Candidate,
};
use semver::Version;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

/// The versions of all plugins that are present in the plugin directory.
#[derive(Default)]
pub(super) struct Catalog {
    plugins: BTreeMap<PluginName, Versions>,
    paths: BTreeMap<PathBuf, (PluginName, Version)>,
    /// Files for which nobody vouches yet, and of which plugin they are.
    untrusted: BTreeMap<PathBuf, PluginName>,
    /// What was decided about plugins of which no file is there.
    kept: BTreeMap<PluginName, Choice>,
    /// No older version comes back by itself.
    is_guarded: bool,
    /// All files of the start are read.
    has_started: bool,
}

impl Catalog {
    /// No files yet, and what was decided before.
    pub(super) fn with(kept: BTreeMap<PluginName, Choice>, is_guarded: bool) -> Self {
        Catalog { kept, is_guarded, ..Catalog::default() }
    }

    /// All files that were there when the host started are read: whatever else comes
    /// is dropped.
    pub(super) fn started(&mut self) {
        self.has_started = true;
        self.plugins.values_mut().for_each(Versions::started);
    }

    /// What has to be known when a host starts again.
    pub(super) fn choices(&self) -> Vec<(PluginName, Choice)> {
        let kept = self.kept.iter().map(|(name, choice)| (name.clone(), choice.clone()));
        kept.chain(self.plugins.iter().map(|(name, versions)| (name.clone(), versions.choice()))).collect()
    }

    /// A file was read: what it means, and another file that has to be read
    /// because this one held its version before.
    pub(super) fn add(&mut self, candidate: Candidate, arrival: Arrival) -> (Added, Option<PathBuf>) {
        let id = candidate.id.clone();
        let path = candidate.staged.source.clone();
        let mut read_too = None;
        if self.paths.get(&path).is_some_and(|(name, version)| (name, version) != (&id.name, &id.version))
            && let Removed::ReadInstead(other) = self.remove(&path, Instant::now())
        {
            read_too = Some(other);
        }
        self.paths.insert(path.clone(), (id.name.clone(), id.version.clone()));
        (self.of(&id.name).add(path, candidate, arrival), read_too)
    }

    /// The versions of a plugin, with what was decided before if none was seen yet.
    fn of(&mut self, name: &PluginName) -> &mut Versions {
        let (kept, is_guarded, has_started) = (&mut self.kept, self.is_guarded, self.has_started);
        self.plugins.entry(name.clone()).or_insert_with(|| {
            let mut versions = Versions::kept(kept.remove(name).unwrap_or_default(), is_guarded);
            if has_started {
                versions.started();
            }
            versions
        })
    }

    /// A file stands there, for which nobody vouches, or not yet.
    pub(super) fn add_untrusted(&mut self, path: &Path, id: &VersionId) {
        self.remove_untrusted(path);
        self.untrusted.insert(path.to_owned(), id.name.clone());
        self.of(&id.name).add_untrusted(path.to_owned(), id.clone());
    }

    /// It is trusted now, gone, or something else.
    pub(super) fn remove_untrusted(&mut self, path: &Path) {
        if let Some(name) = self.untrusted.remove(path) {
            if let Some(versions) = self.plugins.get_mut(&name) {
                versions.remove_untrusted(path);
            }
            self.prune(&name);
        }
    }

    /// No private copy is kept.
    pub(super) fn forget_copies(&mut self) {
        self.plugins.values_mut().for_each(Versions::forget_copies);
    }

    /// A file is gone, and with it the version that only it held.
    pub(super) fn remove(&mut self, path: &Path, now: Instant) -> Removed {
        let Some((name, version)) = self.paths.remove(path) else {
            return Removed::Nothing;
        };
        let removed = match self.plugins.get_mut(&name) {
            Some(versions) => versions.remove(&version, path, now),
            None => Removed::Nothing,
        };
        self.prune(&name);
        removed
    }

    /// A file holds nothing usable any more: its version is not deployed from
    /// it, and what serves serves on.
    pub(super) fn spoil(&mut self, path: &Path, now: Instant) -> Removed {
        let versions =
            self.paths.get(path).and_then(|(name, version)| Some((self.plugins.get_mut(name)?, version)));
        versions.map_or(Removed::Nothing, |(versions, version)| versions.spoil(version, path, now))
    }

    /// What the version in the file at `path` names here already, where it has other bytes
    /// and may not.
    pub(super) fn twin(&self, id: &VersionId, path: &Path) -> Option<VersionId> {
        if let Some(versions) = self.plugins.get(&id.name) {
            return versions.twin(id, path);
        }
        let kept = self.kept.get(&id.name).filter(|_| self.is_guarded)?;
        kept.served.other_bytes(id).map(|digest| VersionId { digest, ..id.clone() })
    }

    /// Forgets a plugin of which nothing is left, but for what has served of it.
    pub(super) fn prune(&mut self, name: &PluginName) {
        if self.plugins.get(name).is_some_and(Versions::is_empty)
            && let Some(versions) = self.plugins.remove(name)
        {
            let served = versions.choice().served;
            self.kept.insert(name.clone(), Choice { served, ..Choice::default() });
        }
    }

    /// Lets time pass; the plugins for which something is to be done now.
    pub(super) fn pass_time(&mut self, now: Instant) -> Vec<PluginName> {
        let due =
            self.plugins.iter_mut().filter_map(|(name, versions)| versions.pass_time(now).then_some(name));
        due.cloned().collect()
    }

    pub(super) fn names(&self) -> Vec<PluginName> {
        self.plugins.keys().cloned().collect()
    }

    /// All files that hold versions.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.paths.keys().map(PathBuf::as_path)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Versions> {
        self.plugins.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Versions> {
        self.plugins.get_mut(name)
    }
}
