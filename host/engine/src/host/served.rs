//! Which versions of a plugin have served here, and from which bytes: where only what
//! somebody vouches for is loaded, no older version comes back by itself, and a version
//! names one library for good. Pure bookkeeping; it outlives the host.
//!
//! A signature speaks for a file for ever. So whoever can drop files could bring an old
//! version with a known hole back, signed as it is; it takes an operator's choice.

use crate::id::{Digest, VersionId};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Versions whose bytes are remembered; of more, the lowest are forgotten, which are
/// refused as older ones then.
const VERSIONS_MAX: usize = 256;

/// What has served of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Served {
    /// The highest version that has served since an operator last chose a lower one.
    floor: Option<Version>,
    bytes: BTreeMap<Version, Digest>,
    /// Of these, those of which a file has stood in the directory ever since.
    stayed: BTreeSet<Version>,
}

impl Served {
    /// Whether nothing has served.
    pub(super) fn is_empty(&self) -> bool {
        *self == Served::default()
    }

    /// A version serves; `is_meant` where an operator said so of this very one.
    pub(super) fn note(&mut self, id: &VersionId, is_meant: bool) {
        if is_meant || self.floor.as_ref().is_none_or(|floor| *floor < id.version) {
            self.floor = Some(id.version.clone());
        }
        self.name(id);
        self.stayed.insert(id.version.clone());
        self.stayed.retain(|version| self.bytes.contains_key(version));
    }

    /// A version serves, be it only a share of the calls: these are its bytes from now on.
    pub(super) fn name(&mut self, id: &VersionId) {
        self.bytes.insert(id.version.clone(), id.digest);
        while self.bytes.len() > VERSIONS_MAX {
            self.bytes.pop_first();
        }
    }

    /// What a version may not take the place of by itself: a later one. It may if it has
    /// served itself, and its file has stood there since.
    pub(super) fn is_older_than(&self, id: &VersionId) -> Option<&Version> {
        let stayed = self.bytes.get(&id.version) == Some(&id.digest) && self.stayed.contains(&id.version);
        self.floor.as_ref().filter(|floor| id.version < **floor && !stayed)
    }

    /// The bytes of this version that have served, if they are others.
    pub(super) fn other_bytes(&self, id: &VersionId) -> Option<Digest> {
        self.bytes.get(&id.version).copied().filter(|digest| *digest != id.digest)
    }

    /// Only files with these bytes are there now: whatever else comes is dropped anew.
    pub(super) fn only_stay(&mut self, is_there: impl Fn(&Digest) -> bool) {
        self.stayed.retain(|version| self.bytes.get(version).is_some_and(&is_there));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(major: u64, bytes: &[u8]) -> VersionId {
        let (name, version) = ("plugin".parse().expect("a name"), Version::new(major, 0, 0));
        VersionId { name, version, digest: Digest::of(bytes) }
    }

    #[test]
    fn an_older_version_comes_back_by_itself_only_if_it_served_and_has_stayed() {
        let mut served = Served::default();
        assert_eq!(served.is_older_than(&id(1, b"one")), None, "nothing has served");
        served.note(&id(1, b"one"), false);
        served.note(&id(3, b"three"), false);
        assert_eq!(served.is_older_than(&id(1, b"one")), None, "it has stayed");
        assert_eq!(served.is_older_than(&id(2, b"two")), Some(&Version::new(3, 0, 0)), "it never served");
        assert_eq!(served.is_older_than(&id(1, b"other")), Some(&Version::new(3, 0, 0)));
        served.only_stay(|digest| *digest != Digest::of(b"one"));
        assert_eq!(served.is_older_than(&id(1, b"one")), Some(&Version::new(3, 0, 0)), "it was gone");
        assert_eq!(served.is_older_than(&id(4, b"four")), None);
    }

    #[test]
    fn what_an_operator_goes_back_to_is_what_later_files_are_measured_by() {
        let mut served = Served::default();
        served.note(&id(3, b"three"), false);
        served.note(&id(1, b"one"), true);
        assert_eq!(served.is_older_than(&id(2, b"two")), None);
        served.note(&id(1, b"one"), false);
        assert_eq!(served.is_older_than(&id(0, b"none")), Some(&Version::new(1, 0, 0)));
    }

    #[test]
    fn a_version_names_one_library_for_good_and_not_for_ever_many() {
        let mut served = Served::default();
        for major in 0..=VERSIONS_MAX as u64 {
            served.note(&id(major, &major.to_le_bytes()), false);
        }
        assert_eq!(served.other_bytes(&id(1, b"other")), Some(Digest::of(&1_u64.to_le_bytes())));
        assert_eq!(served.other_bytes(&id(1, &1_u64.to_le_bytes())), None);
        assert_eq!(served.other_bytes(&id(0, b"other")), None, "forgotten");
        assert!(served.is_older_than(&id(0, b"other")).is_some(), "and older");
    }
}
