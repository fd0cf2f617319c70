//! The versions of one plugin: which files hold them, which was chosen, which
//! serves, and which must not or not yet be tried.
//!
//! long: what is wanted follows from all that is known of the versions of a plugin, which stands here once.

use super::{
    backoff::Backoff,
    choices::{Before, Choice, TableCommit},
    served::Served,
    standing::Standing,
};
use crate::{
    id::{Digest, VersionId},
    pipeline::Candidate,
};
use semver::Version;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long the version that serves outlives its file: a file that is renamed
/// is gone under one name before it is there under the other.
pub(super) const GONE_GRACE: Duration = Duration::from_millis(100);

/// The versions of one plugin.
#[derive(Default)]
pub(super) struct Versions {
    present: BTreeMap<Version, Present>,
    pinned: Option<Version>,
    /// What stands of choices beside that.
    standing: Standing,
    active: Option<VersionId>,
    /// The version that serves a share of the calls beside it.
    trial: Option<VersionId>,
    went_back: bool,
    /// The file of the version that was gone back to, also by a host before.
    stays: Option<Digest>,
    /// Files that were refused; they are not tried again until they change.
    refused: BTreeSet<Digest>,
    /// Of these, those of versions that were gone back from.
    left: BTreeSet<Digest>,
    /// Of these, those that a host before has refused and this one has not seen.
    unseen: BTreeSet<Digest>,
    /// Versions whose deployment failed through no fault of theirs.
    backoff: Backoff<Digest>,
    /// Files that passed their rehearsal.
    rehearsed: BTreeMap<Digest, Rehearsed>,
    /// Until when the version that serves is kept, its file being gone.
    gone_until: Option<Instant>,
    /// Files that stand there, and for which nobody vouches yet.
    untrusted: BTreeMap<PathBuf, VersionId>,
    served: Served,
    /// What has served is noted, and nothing older comes back by itself.
    is_guarded: bool,
    /// Of what the host before has seen, some files may not have been read yet.
    is_starting: bool,
}

/// A version whose file is there.
pub(super) struct Present {
    pub(super) id: VersionId,
    /// The file that was read last.
    pub(super) path: PathBuf,
    /// All files that hold the version, with what they held when they were
    /// read.
    files: BTreeMap<PathBuf, Content>,
    /// The private copy, until it is loaded or given up; a later deployment
    /// makes another.
    candidate: Option<Candidate>,
    /// When the file was noticed, and how long its first stages took.
    pub(super) arrival: Arrival,
}

/// A rehearsal that a file passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rehearsed {
    /// How long it took, in microseconds.
    pub(super) micros: u64,
    /// The file of the version that served then, whose state was taken over.
    pub(super) against: Option<Digest>,
    /// There is no state to be taken over.
    pub(super) is_stateless: bool,
}

/// What a file held when it was read, and which file that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    digest: Digest,
    /// Device and inode.
    place: (u64, u64),
    /// When the inode was changed last, by a write, a rename or a link: seconds
    /// and nanoseconds.
    changed: (i64, i64),
}

impl Content {
    fn of(digest: Digest, file: &Metadata) -> Self {
        let (place, changed) = ((file.dev(), file.ino()), (file.ctime(), file.ctime_nsec()));
        Content { digest, place, changed }
    }
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

/// What the end of a file means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// The version went with it.
    Gone(VersionId),
    /// Another file holds the version, with other bytes; it has to be read.
    ReadInstead(PathBuf),
    /// Nothing changes.
    Nothing,
}

/// What outlives the host.
impl Versions {
    /// No files yet, and what was decided before.
    pub(super) fn kept(choice: Choice, is_guarded: bool) -> Self {
        let Choice { chosen, before, stays, mut left, served } = choice;
        // A host before may have kept both of one file.
        left.retain(|digest| Some(*digest) != stays);
        Versions {
            pinned: chosen,
            standing: Standing::found(before),
            stays,
            refused: left.clone(),
            unseen: left.clone(),
            left,
            served,
            is_guarded,
            is_starting: true,
            ..Versions::default()
        }
    }

    /// What has to be known when a host starts again.
    pub(super) fn choice(&self) -> Choice {
        let (chosen, before) = self.standing.outlives(&self.pinned);
        Choice { chosen, before, stays: self.stays, left: self.left.clone(), served: self.served.clone() }
    }

    /// All files that were there when the host started are read. A choice whose file went
    /// meanwhile is none any more, where it would let an older version in later.
    pub(super) fn started(&mut self) {
        if !self.is_starting {
            return;
        }
        self.is_starting = false;
        let is_there = |version: &Version| {
            let mut untrusted = self.untrusted.values();
            self.present.contains_key(version) || untrusted.any(|id| id.version == *version)
        };
        if self.is_guarded && self.standing.found_in_doubt().is_none() {
            self.pinned = self.pinned.take_if(|version| is_there(version));
        }
        self.forget_what_is_gone();
    }

    /// A file stands there, for which nobody vouches, or not yet.
    pub(super) fn add_untrusted(&mut self, path: PathBuf, id: VersionId) {
        self.untrusted.insert(path, id);
    }

    /// It is trusted now, gone, or something else.
    pub(super) fn remove_untrusted(&mut self, path: &Path) {
        self.untrusted.remove(path);
        self.forget_what_is_gone();
    }
}

/// Files of one plugin.
impl Versions {
    /// A file was read.
    pub(super) fn add(&mut self, path: PathBuf, candidate: Candidate, arrival: Arrival) -> Added {
        let id = candidate.id.clone();
        let before = self.present.remove(&id.version);
        let known = before.as_ref().is_some_and(|present| present.id == id);
        let mut files = before.map(|present| present.files).unwrap_or_default();
        let content = Content::of(id.digest, &candidate.staged.metadata);
        let stood_there = files.insert(path.clone(), content);
        self.see(stood_there, content);
        let serves = self.active.as_ref() == Some(&id);
        if serves {
            self.gone_until = None;
        }
        let candidate = (!serves).then_some(candidate);
        self.present.insert(id.version.clone(), Present { id, path, files, candidate, arrival });
        self.forget_what_is_gone();
        self.keep_wanted_copy();
        if known {
            return Added::Known;
        }
        if self.active.is_some() {
            self.went_back = false;
            self.stays = None;
        }
        Added::New
    }

    /// What a file holds that was put there since it was read before is tried
    /// again, whatever was said of it: somebody wants that. That a new watch
    /// reports the file as it stands there is no wish.
    fn see(&mut self, before: Option<Content>, now: Content) {
        // Nor is it that a host which starts sees it for the first time.
        if before != Some(now) && !self.unseen.remove(&now.digest) {
            self.try_again(&now.digest);
        }
    }

    /// A file that held `version` is gone.
    pub(super) fn remove(&mut self, version: &Version, path: &Path, now: Instant) -> Removed {
        let Some(present) = self.present.get_mut(version) else {
            return Removed::Nothing;
        };
        let was_read_last = present.path == path;
        present.files.remove(path);
        if let Some((other, content)) = present.files.first_key_value() {
            if !was_read_last {
                return Removed::Nothing;
            }
            present.path = other.clone();
            if content.digest == present.id.digest {
                return Removed::Nothing;
            }
            return Removed::ReadInstead(other.clone());
        }
        let id = present.id.clone();
        self.present.remove(version);
        if self.pinned.as_ref() == Some(version) {
            self.pinned = None;
        }
        if self.active.as_ref().is_some_and(|active| active.version == *version) {
            self.gone_until = Some(now + GONE_GRACE);
        }
        self.forget_what_is_gone();
        Removed::Gone(id)
    }

    /// A file that held `version` holds nothing usable any more.
    pub(super) fn spoil(&mut self, version: &Version, path: &Path, now: Instant) -> Removed {
        let Some(present) = self.present.get_mut(version) else {
            return Removed::Nothing;
        };
        if present.files.len() > 1 {
            return self.remove(version, path, now);
        }
        present.candidate = None;
        self.refused.insert(present.id.digest);
        Removed::Nothing
    }

    /// What serves, if it is the same version with other bytes.
    pub(super) fn serving_twin(&self, id: &VersionId) -> Option<&VersionId> {
        let is_twin = |other: &&VersionId| other.version == id.version && other.digest != id.digest;
        self.active.iter().chain(&self.trial).find(is_twin)
    }

    /// What the version in the file at `path` names here already, if it has other bytes and
    /// a version names one library for good.
    pub(super) fn twin(&self, id: &VersionId, path: &Path) -> Option<VersionId> {
        let is_twin = |file: &(&PathBuf, &Content)| *file.0 != path && file.1.digest != id.digest;
        let there = || self.present.get(&id.version)?.files.iter().find(is_twin).map(|file| file.1.digest);
        let digest = self.served.other_bytes(id).or_else(there).filter(|_| self.is_guarded)?;
        Some(VersionId { digest, ..id.clone() })
    }

    /// The later version that this one does not take the place of by itself.
    pub(super) fn is_older_than(&self, id: &VersionId) -> Option<&Version> {
        let is_chosen = self.pinned.as_ref() == Some(&id.version);
        self.served.is_older_than(id).filter(|_| self.is_guarded && !is_chosen)
    }

    pub(super) fn present(&self) -> impl DoubleEndedIterator<Item = &Present> {
        self.present.values()
    }

    pub(super) fn find(&self, version: &Version) -> Option<&Present> {
        self.present.get(version)
    }

    /// Takes the version's private copy, if there still is one.
    pub(super) fn take_candidate(&mut self, id: &VersionId) -> Option<Candidate> {
        self.present.get_mut(&id.version).filter(|present| present.id == *id)?.candidate.take()
    }

    /// Gives it back, if it is still what the version is made of.
    pub(super) fn give_candidate(&mut self, candidate: Candidate, arrival: Arrival) {
        let is_wanted = self.wanted().is_some_and(|wanted| wanted.id == candidate.id);
        let present = self.present.get_mut(&candidate.id.version);
        if let Some(present) = present.filter(|present| is_wanted && present.candidate.is_none()) {
            (present.candidate, present.arrival) = (Some(candidate), arrival);
        }
    }

    /// The file passed its rehearsal.
    pub(super) fn is_rehearsed(&mut self, id: &VersionId, rehearsed: Rehearsed) {
        self.rehearsed.insert(id.digest, rehearsed);
    }

    /// How long the file's rehearsal took; none before it passed one that says something of
    /// what would be done now.
    pub(super) fn rehearsed_us(&self, id: &VersionId) -> Option<u64> {
        let active = self.active.as_ref().map(|active| active.digest);
        let rehearsed = self.rehearsed.get(&id.digest)?;
        (rehearsed.is_stateless || rehearsed.against == active).then_some(rehearsed.micros)
    }

    /// No private copy is kept: the next deployment makes another, and has it judged anew.
    pub(super) fn forget_copies(&mut self) {
        self.present.values_mut().for_each(|present| present.candidate = None);
    }

    /// What could serve, and does so by an operator's choice only: it is older than what
    /// has served. Nothing where something else is wanted.
    pub(super) fn out_of_reach(&self) -> Vec<&Present> {
        let is_nothing_wanted = self.wanted().is_none();
        let older = |present: &&Present| is_nothing_wanted && self.is_older_than(&present.id).is_some();
        self.present.values().filter(older).collect()
    }

    /// Whether nothing of the plugin is left.
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty() && self.untrusted.is_empty() && self.active.is_none()
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

    /// Verdicts on bytes that no file holds any more are forgotten.
    fn forget_what_is_gone(&mut self) {
        let there: BTreeSet<Digest> = self
            .present
            .values()
            .flat_map(|present| {
                present.files.values().map(|content| content.digest).chain([present.id.digest])
            })
            .collect();
        self.refused.retain(|digest| there.contains(digest) || self.unseen.contains(digest));
        self.left.retain(|digest| self.refused.contains(digest));
        self.backoff.keep(|digest| there.contains(digest));
        self.rehearsed.retain(|digest, _| there.contains(digest));
        if !self.is_starting {
            let others = self.untrusted.values().chain(&self.active);
            let others: BTreeSet<Digest> = others.map(|id| id.digest).collect();
            self.served.only_stay(|digest| there.contains(digest) || others.contains(digest));
        }
    }
}

/// What is wanted, and what serves.
impl Versions {
    /// The version that should serve: the pinned one, else the highest that may
    /// be tried now.
    pub(super) fn wanted(&self) -> Option<&Present> {
        let may_be_tried = |present: &&Present| {
            let digest = &present.id.digest;
            !self.refused.contains(digest) && !self.backoff.is_waiting(digest)
        };
        let is_not_older = |present: &&Present| self.is_older_than(&present.id).is_none();
        let stays = self.stays.filter(|_| self.active.is_none());
        let stays =
            stays.and_then(|digest| self.present.values().find(|present| present.id.digest == digest));
        if let Some(stays) = stays.filter(may_be_tried) {
            return Some(stays);
        }
        // The choice of a host before may not be there any more, or its file may hold
        // what was gone back from: a choice names a version, and a verdict bytes.
        let pinned = self.pinned.as_ref().and_then(|pinned| self.present.get(pinned));
        let is_left = |present: &&Present| self.active.is_none() && self.left.contains(&present.id.digest);
        match pinned.filter(|present| !is_left(present)) {
            Some(pinned) => Some(pinned).filter(may_be_tried),
            None => self.present.values().rev().filter(may_be_tried).find(is_not_older),
        }
    }

    /// What serves.
    pub(super) fn active(&self) -> Option<&VersionId> {
        self.active.as_ref()
    }

    /// A version serves now, or none does.
    pub(super) fn set_active(&mut self, id: Option<VersionId>) {
        if let Some(id) = &id {
            self.backoff.forget(&id.digest);
            self.stays = self.stays.filter(|stays| *stays == id.digest);
            if self.is_guarded {
                let is_chosen = self.pinned.as_ref() == Some(&id.version);
                self.served.note(id, is_chosen || self.stays.is_some());
            }
        }
        self.went_back = id.is_some() && self.stays.is_some();
        self.active = id;
        self.gone_until = None;
    }

    /// The version that is being tried beside the one that serves.
    pub(super) fn trial(&self) -> Option<&VersionId> {
        self.trial.as_ref()
    }

    /// A version is tried now, or none is.
    pub(super) fn set_trial(&mut self, id: Option<VersionId>) {
        if let Some(id) = &id {
            self.try_again(&id.digest);
            if self.is_guarded {
                self.served.name(id);
            }
        }
        self.trial = id;
    }

    /// The version that was tried serves. Where that needs a choice to last, or
    /// takes the place of one, this version is the choice.
    pub(super) fn promote(&mut self, id: &VersionId) {
        let is_lower = self.active.as_ref().is_some_and(|active| id.version < active.version);
        if is_lower || self.pinned.is_some() {
            self.pinned = self.present.contains_key(&id.version).then(|| id.version.clone());
        }
        self.try_again(&id.digest);
        self.trial = None;
        self.set_active(Some(id.clone()));
    }

    /// `from` serves no more, and is not tried before its file changes; `to`
    /// serves.
    pub(super) fn rolled_back(&mut self, from: &VersionId, to: &VersionId) {
        let was_trial = self.trial.take().is_some();
        self.refuse(from);
        self.left.insert(from.digest);
        // It may have been left itself since it was put aside: as a trial.
        self.try_again(&to.digest);
        if self.pinned.as_ref() == Some(&from.version) {
            self.pinned = self.present.contains_key(&to.version).then(|| to.version.clone());
        }
        self.standing.leave(&from.version, &to.version);
        if !was_trial {
            self.stays = Some(to.digest);
            self.set_active(Some(to.clone()));
        }
    }

    /// Whether what serves was gone back to: then it stays until a new file comes
    /// or an operator chooses, whatever other files there are.
    pub(super) fn went_back(&self) -> bool {
        self.went_back
    }

    /// Whether the file of the version that serves has only just gone, so that
    /// it may be about to come back under another name.
    pub(super) fn may_come_back(&self) -> bool {
        self.gone_until.is_some()
    }

    /// The version that an operator chose.
    pub(super) fn pinned(&self) -> Option<&Version> {
        self.pinned.as_ref()
    }

    /// An operator chooses a version, which is tried whatever was said of it
    /// before; or none, and then what waits is tried now.
    pub(super) fn pin(&mut self, version: Option<Version>) {
        self.went_back = false;
        self.stays = None;
        match &version {
            Some(version) => {
                if let Some(present) = self.present.get(version) {
                    let digest = present.id.digest;
                    self.try_again(&digest);
                }
            }
            None => self.backoff = Backoff::default(),
        }
        self.pinned = version;
    }

    /// What stands of choices beside the one that was made last.
    pub(super) fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }

    /// Rows are about to be committed for the choice.
    pub(super) fn doubt_choice(&mut self, commits: BTreeMap<String, TableCommit>) {
        self.standing.doubt(self.pinned.clone(), commits);
    }

    /// The choice was refused, and the one before it stands again.
    pub(super) fn withdraw_choice(&mut self) {
        let before = self.standing.release();
        let may_be_tried = |present: &Present| !self.refused.contains(&present.id.digest);
        self.pinned = before.filter(|version| self.present.get(version).is_some_and(may_be_tried));
    }

    /// What a host before has left open is decided, and was this; what is chosen may be
    /// another version now.
    pub(super) fn decide_choice(&mut self, is_carried_out: bool) -> Option<Before> {
        self.standing.decide(is_carried_out, &mut self.pinned)
    }

    /// The version is not tried again until its file changes.
    pub(super) fn refuse(&mut self, id: &VersionId) {
        self.backoff.forget(&id.digest);
        self.refused.insert(id.digest);
    }

    pub(super) fn is_refused(&self, id: &VersionId) -> bool {
        self.refused.contains(&id.digest)
    }

    /// Somebody vouches for it again, or at last.
    pub(super) fn is_trusted_again(&mut self, id: &VersionId) {
        if !self.left.contains(&id.digest) {
            self.refused.remove(&id.digest);
        }
    }

    /// The version is tried again after a pause, which is returned.
    pub(super) fn retry_later(&mut self, id: &VersionId, now: Instant) -> Duration {
        self.backoff.failed(id.digest, now)
    }

    /// How long the version waits to be tried again.
    pub(super) fn retry_in(&self, id: &VersionId, now: Instant) -> Option<Duration> {
        self.backoff.left(&id.digest, now)
    }

    /// Lets time pass; whether something is to be done now.
    pub(super) fn pass_time(&mut self, now: Instant) -> bool {
        let gone = self.gone_until.take_if(|until| *until <= now).is_some();
        !self.backoff.end_pauses(now).is_empty() || gone
    }

    fn try_again(&mut self, digest: &Digest) {
        self.refused.remove(digest);
        self.left.remove(digest);
        self.backoff.forget(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions_with(majors: [u64; 2]) -> (Versions, [VersionId; 2]) {
        let mut versions = Versions::default();
        let ids = majors.map(|major| {
            let (version, digest) = (Version::new(major, 0, 0), Digest::of(&major.to_le_bytes()));
            let id = VersionId { name: "plugin".parse().expect("a name"), version, digest };
            let present = Present {
                id: id.clone(),
                path: PathBuf::new(),
                files: BTreeMap::new(),
                candidate: None,
                arrival: Arrival::default(),
            };
            versions.present.insert(id.version.clone(), present);
            id
        });
        (versions, ids)
    }

    /// Once, it was left in the file as one that is not tried: the next host served no
    /// version at all.
    #[test]
    fn what_is_gone_back_to_serves_after_a_restart_also_if_it_was_left_as_a_trial() {
        let (mut versions, [before, next]) = versions_with([3, 2]);
        for id in [&before, &next] {
            versions.pin(Some(id.version.clone()));
            versions.set_active(Some(id.clone()));
        }
        // Tried anew beside the next one, while it is kept ready behind that.
        versions.set_trial(Some(before.clone()));
        versions.rolled_back(&before, &next);
        versions.rolled_back(&next, &before);
        assert_eq!(versions.active(), Some(&before));
        assert_eq!(versions.wanted().map(|wanted| &wanted.id), Some(&before));
        let kept = versions.choice();
        assert_eq!(kept.left, BTreeSet::from([next.digest]));
        for left in [kept.left.clone(), BTreeSet::from([next.digest, before.digest])] {
            let mut again = Versions::kept(Choice { left, ..kept.clone() }, false);
            again.present = versions_with([3, 2]).0.present;
            assert_eq!(again.wanted().map(|wanted| &wanted.id), Some(&before));
        }
    }

    /// Once, a choice held a file up that had been gone back from, when its version had
    /// other bytes: the next host served no version at all.
    #[test]
    fn a_choice_whose_file_was_gone_back_from_leaves_a_start_to_the_others() {
        let (mut versions, [chosen, other]) = versions_with([2, 1]);
        let bytes_before = VersionId { digest: Digest::of(b"before"), ..chosen.clone() };
        versions.pin(Some(chosen.version.clone()));
        versions.set_active(Some(chosen.clone()));
        versions.rolled_back(&chosen, &bytes_before);
        assert_eq!(versions.pinned(), Some(&chosen.version));
        let mut again = Versions::kept(versions.choice(), false);
        again.present = versions_with([2, 1]).0.present;
        assert_eq!(again.wanted().map(|wanted| &wanted.id), Some(&other));
        again.pin(Some(chosen.version.clone()));
        assert_eq!(again.wanted().map(|wanted| &wanted.id), Some(&chosen), "a new choice of it counts");
    }

    /// Once, the choice that a refused one gave way to was the one that had been gone
    /// back from while it waited.
    #[test]
    fn a_way_back_while_a_choice_waits_is_what_its_refusal_leaves() {
        let (mut versions, [serving, before]) = versions_with([2, 1]);
        versions.pin(Some(serving.version.clone()));
        versions.set_active(Some(serving.clone()));
        versions.standing().hold(Some(serving.version.clone()));
        versions.pin(Some(Version::new(3, 0, 0)));
        versions.rolled_back(&serving, &before);
        assert_eq!(versions.choice().chosen, Some(before.version.clone()));
        versions.withdraw_choice();
        assert_eq!(versions.pinned(), Some(&before.version));
    }

    /// Once, a watch that was started again let a version be tried again that
    /// had been rolled back: it reports all files, and each was taken for dropped.
    #[test]
    fn a_verdict_stands_until_its_file_is_dropped_again() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (file, beside) = (home.path().join("plugin.so"), home.path().join("beside"));
        let digest = Digest::of(b"plugin");
        let read = || Content::of(digest, &std::fs::metadata(&file).expect("it is there"));
        let mut versions = Versions::default();
        std::fs::write(&file, "plugin").expect("writes");
        let first = read();
        versions.refused.insert(digest);
        versions.see(Some(first), read());
        assert!(versions.refused.contains(&digest), "nobody touched the file");
        std::fs::write(&beside, "plugin").expect("writes");
        std::fs::rename(&beside, &file).expect("renames");
        versions.see(Some(first), read());
        assert!(!versions.refused.contains(&digest), "the same bytes were dropped again");
    }
}
