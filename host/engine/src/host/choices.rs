//! What outlives the host of what was decided about versions: which one an
//! operator chose, and which were gone back from.
//!
//! One small file in the data directory, replaced as a whole: written beside its
//! place, synced, renamed. A choice is written when its version serves, before it is
//! answered. One for whose version rows are committed before it serves is written
//! before that, beside the choice that stands until then; as long as both are there,
//! a host that starts looks at the tables which of them it is. Going back acts first
//! and is written before it is answered, too. Rows and snapshots are not here, and
//! neither is which version serves: that follows from the files that are present and
//! from this.

use super::served::Served;
use crate::{
    failure::{Code, Failure},
    id::{Digest, PluginName},
};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What was decided about the versions of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Choice {
    /// The version that an operator chose.
    pub(super) chosen: Option<Version>,
    /// The choice before, while it is open which of the two it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Before>,
    /// The file of the version that was gone back to, which stays.
    pub(super) stays: Option<Digest>,
    /// The files of versions that were gone back from.
    pub(super) left: BTreeSet<Digest>,
    /// What has served, where nothing older may come back by itself.
    #[serde(skip_serializing_if = "Served::is_empty")]
    pub(super) served: Served,
}

/// The choice before one for whose version rows are being committed, or were and it
/// is being undone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    /// The version that an operator chose.
    pub(super) chosen: Option<Version>,
    /// What is committed, by table. The later choice is the one as soon as one of
    /// these commits is on the disk, since then rows of the other version are void.
    pub(super) commits: BTreeMap<String, TableCommit>,
}

/// What a commit makes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableCommit {
    /// The schema that is committed.
    pub(super) schema: u32,
    /// The last generation before: what it wrote in a later schema is void.
    pub(super) generation: u32,
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: u32,
    plugins: BTreeMap<PluginName, Choice>,
}

const FORMAT: u32 = 1;

/// Keeps the file.
pub(super) struct Choices {
    path: PathBuf,
    saved: Mutex<Saved>,
}

impl Choices {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is none of this host's.
    pub(super) fn open(path: PathBuf) -> Result<Self, ChoicesError> {
        let saved = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Saved>(&bytes)
                .map_err(|error| ChoicesError::Damaged { path: path.clone(), reason: error.to_string() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Saved { format: FORMAT, plugins: BTreeMap::new() }
            }
            Err(source) => return Err(ChoicesError::Io { path, source }),
        };
        if saved.format != FORMAT {
            let reason = format!("it has format {}, and this host knows {FORMAT}", saved.format);
            return Err(ChoicesError::Damaged { path, reason });
        }
        Ok(Choices { path, saved: Mutex::new(saved) })
    }

    /// What is kept, for plugins whose files have not been seen yet.
    pub(super) fn all(&self) -> BTreeMap<PluginName, Choice> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).plugins.clone()
    }

    /// Keeps what `now` says, of the plugins that it speaks of. It is asked when
    /// nobody else writes, so that a later answer is never replaced by an earlier
    /// one.
    ///
    /// # Errors
    /// The file cannot be written; what it held stands.
    pub(super) fn keep(&self, now: impl FnOnce() -> Vec<(PluginName, Choice)>) -> Result<(), ChoicesError> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = saved.clone();
        next.plugins.extend(now());
        next.plugins.retain(|_, choice| *choice != Choice::default());
        if next == *saved {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&next).map_err(io::Error::from);
        bytes
            .and_then(|bytes| replace(&self.path, &bytes))
            .map_err(|source| ChoicesError::Io { path: self.path.clone(), source })?;
        *saved = next;
        Ok(())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The file of choices cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChoicesError {
    /// It cannot be read or written.
    #[error("the choices of versions cannot be kept in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no choices of versions: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Failure for ChoicesError {
    fn code(&self) -> Code {
        match self {
            ChoicesError::Io { .. } => Code::StateStore,
            ChoicesError::Damaged { .. } => Code::StateCorrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::VersionId;

    fn served() -> Served {
        let (name, version, digest) = (name(), Version::new(2, 0, 0), Digest::of(b"served"));
        let mut served = Served::default();
        served.note(&VersionId { name, version, digest }, false);
        served
    }

    fn name() -> PluginName {
        "sessions".parse().expect("a name")
    }

    #[test]
    fn what_was_decided_is_there_when_the_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("choices.json");
        let choice = Choice {
            chosen: Some(Version::new(1, 2, 3)),
            before: Some(Before {
                chosen: None,
                commits: BTreeMap::from([("rows".to_owned(), TableCommit { schema: 1, generation: 7 })]),
            }),
            stays: Some(Digest::of(b"stays")),
            left: BTreeSet::from([Digest::of(b"left")]),
            served: served(),
        };
        let choices = Choices::open(path.clone()).expect("there is none yet");
        choices.keep(|| vec![(name(), choice.clone())]).expect("is written");
        let again = Choices::open(path.clone()).expect("is read");
        assert_eq!(again.all(), BTreeMap::from([(name(), choice)]));
        again.keep(|| vec![(name(), Choice::default())]).expect("is written");
        assert!(Choices::open(path).expect("is read").all().is_empty());
    }

    #[test]
    fn a_file_without_a_choice_before_is_read_as_hosts_before_have_written_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("choices.json");
        let saved =
            br#"{"format": 1, "plugins": {"sessions": {"chosen": "1.2.3", "stays": null, "left": []}}}"#;
        fs::write(&path, saved).expect("is written");
        let choice = Choice { chosen: Some(Version::new(1, 2, 3)), ..Choice::default() };
        assert_eq!(Choices::open(path.clone()).expect("is read").all(), BTreeMap::from([(name(), choice)]));
    }

    #[test]
    fn a_damaged_file_is_named_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("choices.json");
        for bytes in [&b"{"[..], br#"{"format": 2, "plugins": {}}"#, br#"{"format": 1, "other": 1}"#] {
            fs::write(&path, bytes).expect("is written");
            let error = Choices::open(path.clone()).err().expect("is refused");
            assert_eq!(error.code(), Code::StateCorrupt, "{error}");
            assert_eq!(fs::read(&path).expect("is there"), bytes);
        }
    }
}
