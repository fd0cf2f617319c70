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
    /// The file ends like a snapshot, but has a name that no save gives.
    #[error("the file {} has no snapshot's name", path.display())]
    ForeignName {
        /// The file.
        path: PathBuf,
    },
}

impl Failure for StoreError {
    fn code(&self) -> Code {
        match self {
            StoreError::Io { .. }
            | StoreError::Sync { .. }
            | StoreError::SyncFailed { .. }
            | StoreError::PluginName { .. } => Code::StateStore,
            StoreError::TooLarge { .. } => Code::StateTooLarge,
            StoreError::Envelope { source, .. } => source.code(),
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
