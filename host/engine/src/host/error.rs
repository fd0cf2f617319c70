//! Why a host cannot start, or not do what it was asked for.

use super::choices::ChoicesError;
use crate::{
    artifact::{stage::StageError, trust::TrustError, watch::WatchError},
    event::FailureReport,
    failure::{Code, Failure},
    state::{json::JsonError, store::StoreError},
};
use std::{io, path::PathBuf};

/// A host cannot start, or not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A directory cannot be used.
    #[error("cannot use the directory {}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another host uses the data directory.
    #[error("the data directory {} is in use by process {pid}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other host, as it wrote itself down.
        pid: String,
    },
    /// The plugin directory cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The private store cannot be used.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// In production, others can write where private copies are kept.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The snapshot store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was decided about versions before cannot be read.
    #[error(transparent)]
    Choices(#[from] ChoicesError),
    /// Saved state cannot be shown as JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The system gives no more threads.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A command failed.
    #[error("{0}")]
    Failed(FailureReport),
    /// Options contradict each other, or one of them cannot be.
    #[error("{option}: {reason}")]
    Option {
        /// The option, as the builder names it.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// Too many commands wait already.
    #[error("{waiting} commands wait for the host, which is the limit")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The host ended by a panic of its own; state may not have been saved.
    #[error("the host ended by a panic: {message}")]
    Panicked {
        /// The panic's text.
        message: String,
    },
    /// The host has ended.
    #[error("the host has stopped")]
    Stopped,
}

impl Failure for HostError {
    fn code(&self) -> Code {
        match self {
            HostError::DataDirectory { .. } => Code::HostDataDirectory,
            HostError::Locked { .. } => Code::HostDataLocked,
            HostError::Watch(error) => error.code(),
            HostError::Stage(error) => error.code(),
            HostError::Trust(error) => error.code(),
            HostError::Choices(error) => error.code(),
            HostError::Store(error) => error.code(),
            HostError::Json(error) => error.code(),
            HostError::Thread(_) => Code::HostThread,
            HostError::Failed(report) => Code::from_name(report.code).unwrap_or(Code::HostStopped),
            HostError::Option { .. } => Code::HostOptions,
            HostError::Busy { .. } => Code::GateBusy,
            HostError::Panicked { .. } => Code::HostUncleanEnd,
            HostError::Stopped => Code::HostStopped,
        }
    }
}
