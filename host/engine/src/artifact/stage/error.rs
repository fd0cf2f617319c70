//! Why there is no private copy of a file.

use std::fmt;
use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::failure::{Code, Failure};

/// What stands where a regular file should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A symbolic link; it is not followed.
    Symlink,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

impl FileKind {
    /// None for a regular file.
    pub(super) fn unless_regular(found: FileType) -> Option<FileKind> {
        if found.is_file() {
            None
        } else if found.is_symlink() {
            Some(FileKind::Symlink)
        } else if found.is_dir() {
            Some(FileKind::Directory)
        } else if found.is_fifo() {
            Some(FileKind::Fifo)
        } else if found.is_socket() {
            Some(FileKind::Socket)
        } else {
            Some(FileKind::Device)
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Symlink => "symbolic link",
            FileKind::Directory => "directory",
            FileKind::Fifo => "named pipe",
            FileKind::Socket => "socket",
            FileKind::Device => "device",
        })
    }
}

/// Why there is no private copy of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The system does not let us read it.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The dropped file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is a {found}, a regular file is expected", path.display())]
    NotRegular {
        /// What was dropped.
        path: PathBuf,
        /// What it is.
        found: FileKind,
    },
    /// It has no content.
    #[error("{} is empty", path.display())]
    Empty {
        /// The dropped file.
        path: PathBuf,
    },
    /// It is larger than the limit; nothing was read.
    #[error("{} has {size_bytes} bytes, at most {max_bytes} are allowed", path.display())]
    TooLarge {
        /// The dropped file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Somebody changed it while it was read.
    #[error(
        "{} changed while it was copied: {expected_bytes} bytes before, {found_bytes} after",
        path.display()
    )]
    Changing {
        /// The dropped file.
        path: PathBuf,
        /// Its size before the copy.
        expected_bytes: u64,
        /// Its size after it, or what could be read; the same if only the
        /// content or the times changed.
        found_bytes: u64,
    },
    /// It was removed before it was read.
    #[error("{} is gone", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The private copy cannot be looked at.
    #[error("the private copy {} cannot be read", path.display())]
    Map {
        /// The copy.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing in the directory of private copies may be executed.
    #[error("nothing in {} may be executed: its file system is mounted noexec", path.display())]
    NotExecutable {
        /// The directory.
        path: PathBuf,
    },
    /// The private copy cannot be written.
    #[error("the private copy {} cannot be written", path.display())]
    Store {
        /// The copy, or its directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Failure for StageError {
    fn code(&self) -> Code {
        match self {
            StageError::Unreadable { .. } => Code::StageUnreadable,
            StageError::NotRegular { .. } => Code::StageNotRegular,
            StageError::Empty { .. } => Code::StageEmpty,
            StageError::TooLarge { .. } => Code::StageTooLarge,
            StageError::Changing { .. } => Code::StageChanging,
            StageError::Gone { .. } => Code::StageGone,
            StageError::NotExecutable { .. } => Code::LoadExecutableStore,
            StageError::Map { .. } | StageError::Store { .. } => Code::StageStore,
        }
    }
}
