//! What a snapshot's file name says: enough to order and choose without opening
//! any file.
//!
//! `0000000042-1732150000123-v2-1a2b3c4d.state` is the 42nd snapshot of its
//! plugin, taken at that wall-clock time in milliseconds, of schema version 2,
//! with a digest that begins so. The number orders, because the wall clock may
//! jump back.

use crate::state::envelope::hex;
use std::path::{Path, PathBuf};

/// A snapshot's file. What it says comes from its name; nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) name: Name,
}

impl Snapshot {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its place in the order of its plugin's snapshots; later is higher.
    pub fn sequence(&self) -> u64 {
        self.name.sequence
    }

    /// The payload's schema version.
    pub fn schema_version(&self) -> u32 {
        self.name.schema_version
    }

    /// When it was taken, in milliseconds since 1970 by the wall clock.
    pub fn taken_at_unix_ms(&self) -> u64 {
        self.name.taken_at_unix_ms
    }
}

const ENDING: &str = ".state";
const TEMPORARY_ENDING: &str = ".state.tmp";

/// The longest plugin name that becomes a folder, in bytes.
const MAX_PLUGIN_NAME_BYTES: usize = 128;

/// The parts of a name, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) sequence: u64,
    pub(super) taken_at_unix_ms: u64,
    pub(super) schema_version: u32,
    pub(super) digest: String,
}

impl Name {
    pub(super) fn new(sequence: u64, taken_at_unix_ms: u64, schema_version: u32, sha256: &[u8; 32]) -> Self {
        Name { sequence, taken_at_unix_ms, schema_version, digest: hex(&sha256[..4]) }
    }

    /// The file of this name, and where it is written first.
    pub(super) fn paths(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let Name { sequence, taken_at_unix_ms, schema_version, digest } = self;
        let stem = format!("{sequence:010}-{taken_at_unix_ms}-v{schema_version}-{digest}");
        let path = |ending| folder.join(format!("{stem}{ending}"));
        (path(ENDING), path(TEMPORARY_ENDING))
    }

    /// None if it is not a name that a save gives.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.split('-');
        let parsed = Name {
            sequence: parts.next()?.parse().ok()?,
            taken_at_unix_ms: parts.next()?.parse().ok()?,
            schema_version: parts.next()?.strip_prefix('v')?.parse().ok()?,
            digest: parts.next()?.to_owned(),
        };
        (parts.next().is_none() && parsed.paths(Path::new("")).0 == Path::new(name)).then_some(parsed)
    }
}

/// What a file in a plugin's folder is, by its name.
pub(super) enum Kind {
    Snapshot(Snapshot),
    /// A save that did not come to its end.
    Temporary,
    /// Named like a snapshot, but not by a save.
    Foreign,
    /// None of ours.
    Other,
}

pub(super) fn classify(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match Name::parse(&name) {
        Some(name) => Kind::Snapshot(Snapshot { path: path.to_owned(), name }),
        None if name.ends_with(TEMPORARY_ENDING) => Kind::Temporary,
        None if name.ends_with(ENDING) => Kind::Foreign,
        None => Kind::Other,
    }
}

/// Whether the name can be a folder inside the store and nowhere else.
pub(super) fn is_plugin_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_PLUGIN_NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_no_save_gives_are_not_taken_for_snapshots() {
        for name in [
            "",
            ".state",
            "0000000042-1732150000123-v2-1a2b3c4d.state.tmp",
            "42-1732150000123-v2-1a2b3c4d.state",
            "0000000042-1732150000123-2-1a2b3c4d.state",
            "0000000042-1732150000123-v2-1a2b3c4d-x.state",
            "0000000042-+1732150000123-v2-1a2b3c4d.state",
            "0000000042-1732150000123-v4294967296-1a2b3c4d.state",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn plugin_names_cannot_leave_the_store() {
        for name in ["markdown", "rate-limit_2.x", "A"] {
            assert!(is_plugin_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a b", "a\0", "é", &"x".repeat(129)] {
            assert!(!is_plugin_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_says_what_it_was_made_from(
            sequence in any::<u64>(), at in any::<u64>(), schema in any::<u32>(), sha256 in any::<[u8; 32]>()
        ) {
            let name = Name::new(sequence, at, schema, &sha256);
            let (path, temporary) = name.paths(Path::new("folder"));
            let text = path.file_name().and_then(|name| name.to_str()).expect("is text");
            prop_assert_eq!(Name::parse(text), Some(name));
            prop_assert!(matches!(classify(&temporary), Kind::Temporary));
        }
    }
}
