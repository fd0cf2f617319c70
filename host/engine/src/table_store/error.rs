//! What can go wrong with a store, and how errors of the system and of the
//! database become that.

use crate::failure::{Code, Failure};
use crate::table::JournalError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store could not be opened, or does not take changes any more.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TableStoreError {
    /// A system call failed; a full disk is one reason.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The database did not take a change, or could not be opened. Final for
    /// changes: what a disk refused once is not tried again and then believed.
    #[error("the table store {} failed to {action}", folder.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The store's folder.
        folder: PathBuf,
        /// What the database said.
        source: Arc<fjall::Error>,
    },
    /// What lies there is not what was written. Nothing of it is served.
    #[error(
        "the table store {} is damaged: {what}; copy the folder away for a look at it, \
         then restore it from a backup, or remove it and open it with `accept_loss` to begin without rows",
        folder.display()
    )]
    Corrupt {
        /// The store's folder.
        folder: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// The machine went down without writing out the last commits of tables that
    /// are kept by the process only. All before them are there.
    #[error(
        "the table store {} lacks its last {commits} commits since the machine went down; \
         restore it from a backup, or open it with `accept_loss` to go on without them",
        folder.display()
    )]
    Loss {
        /// The store's folder.
        folder: PathBuf,
        /// How many are missing.
        commits: u64,
    },
    /// The store is gone, or an older copy of what it was. What is there may be
    /// sound; it is not all that was acknowledged.
    #[error(
        "the table store {} lacks {commits} commits that it had: it was removed, or replaced with an \
         older copy; put back what belongs there, or open it with `accept_loss` to go on without them",
        folder.display()
    )]
    Replaced {
        /// The store's folder.
        folder: PathBuf,
        /// How many are missing.
        commits: u64,
    },
    /// The name cannot be a table's.
    #[error("{name:?} cannot name a table: it may have 1 to {max} bytes")]
    Name {
        /// The name.
        name: String,
        /// Bytes that are allowed.
        max: usize,
    },
    /// The store has such a table already.
    #[error("the table store {} has a table {name:?} already", folder.display())]
    Exists {
        /// The store's folder.
        folder: PathBuf,
        /// The table.
        name: String,
    },
    /// The store was closed, or the table removed from it.
    #[error("the table store {} is closed", folder.display())]
    Closed {
        /// The store's folder.
        folder: PathBuf,
    },
}

impl TableStoreError {
    pub(super) fn into_journal_error(self) -> JournalError {
        Arc::new(self)
    }

    pub(super) fn corrupt(folder: &Path, what: impl Into<String>) -> TableStoreError {
        TableStoreError::Corrupt { folder: folder.into(), what: what.into() }
    }

    /// What the database says while it is opened and read: mostly damage.
    pub(super) fn while_reading(folder: &Path, error: fjall::Error) -> TableStoreError {
        if is_damage(&error) {
            return TableStoreError::corrupt(folder, format!("the database says {error:?}"));
        }
        TableStoreError::database("open", folder, error)
    }

    pub(super) fn database(action: &'static str, folder: &Path, error: fjall::Error) -> TableStoreError {
        TableStoreError::Database { action, folder: folder.into(), source: Arc::new(error) }
    }
}

impl Failure for TableStoreError {
    fn code(&self) -> Code {
        match self {
            TableStoreError::Io { .. }
            | TableStoreError::Database { .. }
            | TableStoreError::Closed { .. } => Code::TableStoreFailed,
            TableStoreError::Corrupt { .. } => Code::TableCorrupt,
            TableStoreError::Loss { .. } => Code::TableLoss,
            TableStoreError::Replaced { .. } => Code::TableStoreReplaced,
            TableStoreError::Name { .. } | TableStoreError::Exists { .. } => Code::TableName,
        }
    }
}

/// Whether the database found fault with its files, rather than with the system.
fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            // What the system says of a file that is not there, or of an offset
            // that was read from a damaged one. The rest is the database's own.
            let of_files = [
                ErrorKind::NotFound,
                ErrorKind::AlreadyExists,
                ErrorKind::InvalidInput,
                ErrorKind::IsADirectory,
                ErrorKind::NotADirectory,
            ];
            error.raw_os_error().is_none() || of_files.contains(&error.kind())
        }
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TableStoreError {
    move |source| TableStoreError::Io { action, path: path.into(), source: Arc::new(source) }
}
