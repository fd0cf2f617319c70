//! What can go wrong with a snapshot, and how system errors become that.

use crate::failure::{Code, Failure};
use crate::state::envelope::EnvelopeError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a snapshot could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed; a full disk is one reason.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was written may not be on the disk; it was removed again.
    #[error("the disk did not confirm {}", path.display())]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed earlier, so that nothing is saved there any more.
    #[error("{} is not written to any more, since the disk failed to confirm a write", folder.display())]
    SyncFailed {
        /// The store's folder.
        folder: PathBuf,
    },
    /// The state is larger than allowed.
    #[error("the state of {plugin} has {size} bytes, and {limit} are allowed")]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// Bytes of the payload, or of the snapshot's file.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The name cannot be a folder's.
    #[error("{name:?} cannot name a plugin's folder: use letters, digits, '.', '_' and '-'")]
    PluginName {
        /// The name.
        name: String,
    },
    /// The file is no sound envelope.
    #[error("the snapshot {} cannot be used", path.display())]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Which check failed.
        source: EnvelopeError,
    },
    /// The file is a sound envelope, but not the one that its place and name
    /// say.
    #[error("the snapshot {} is not what its name says: it is of {plugin:?}", path.display())]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// The plugin that the envelope names.
        plugin: String,
    },
    /// What is to be imported is no sound envelope.
    #[error("this is no snapshot that can be imported")]
    Import {
        /// Which check failed.
        source: EnvelopeError,
    },
    /// What is to be imported is of another plugin.
    #[error("this is a snapshot of {found:?}, not of {wanted:?}")]
    Foreign {
        /// The plugin that it was to be imported for.
        wanted: String,
        /// The plugin that the envelope names.
        found: String,
    },
    /// There is no snapshot of that number, or none that is sound.
    #[error("{}", unknown(plugin, *sequence, there))]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The number; `None` if any would have done.
        sequence: Option<u64>,
        /// The numbers that there are, damaged or not, newest first.
        there: Vec<u64>,
    },
    /// The file ends like a snapshot, but has a name that no save gives.
    #[error("the file {} has no snapshot's name", path.display())]
    ForeignName {
        /// The file.
        path: PathBuf,
    },
}

fn unknown(plugin: &str, sequence: Option<u64>, there: &[u64]) -> String {
    let all: Vec<String> = there.iter().map(u64::to_string).collect();
    match (sequence, all.is_empty()) {
        (_, true) => format!("there is no snapshot of {plugin}"),
        (None, false) => format!("no snapshot of {plugin} is sound; there are: {}", all.join(", ")),
        (Some(number), false) => {
            format!("there is no snapshot {number} of {plugin}; there are: {}", all.join(", "))
        }
    }
}

impl Failure for StoreError {
    fn code(&self) -> Code {
        match self {
            StoreError::Io { .. }
            | StoreError::Sync { .. }
            | StoreError::SyncFailed { .. }
            | StoreError::PluginName { .. } => Code::StateStore,
            StoreError::TooLarge { .. } => Code::StateTooLarge,
            StoreError::Unknown { .. } => Code::StateUnknownSnapshot,
            StoreError::Envelope { source, .. } => source.code(),
            StoreError::Import { source } => match source.code() {
                // Not the store's: whoever has the file can mend it.
                Code::StateCorrupt => Code::StateBadImport,
                code => code,
            },
            StoreError::Foreign { .. } => Code::StateForeign,
            StoreError::Misplaced { .. } | StoreError::ForeignName { .. } => Code::StateCorrupt,
        }
    }
}

/// Whether room has to be made, rather than a disk replaced.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.into(), source }
}

pub(super) fn sync_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Sync { path: path.into(), source }
}
