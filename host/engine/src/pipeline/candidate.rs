//! A file that was read, and is worth loading.

use super::error::DeployError;
use crate::{
    artifact::{
        inspect::{self, Hazard, InspectError, Manifest, Patch},
        stage::{Staged, Stager},
        trust::{Trust, Voucher},
    },
    id::VersionId,
    service::Serving,
};
use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A staged file with what it says about itself.
pub(crate) struct Candidate {
    pub(crate) id: VersionId,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) hazards: Vec<Hazard>,
    pub(crate) staged: Staged,
    pub(crate) voucher: Voucher,
    patch: Option<Patch>,
}

/// Reads a private copy without running it.
pub(crate) fn inspect(staged: Staged) -> Result<Candidate, DeployError> {
    let bytes = staged.copy.map()?;
    let inspected = inspect::inspect(&bytes, &staged.source)?;
    let manifest = Arc::new(inspected.manifest);
    let id =
        VersionId { name: manifest.name.clone(), version: manifest.version.clone(), digest: staged.digest };
    let (hazards, patch, voucher) = (inspected.hazards, inspected.clear_nodelete, Voucher::Nobody);
    Ok(Candidate { id, manifest, hazards, staged, voucher, patch })
}

/// Finds out who vouches for a candidate.
pub(crate) fn judge(candidate: &mut Candidate, trust: &Trust) -> Result<(), DeployError> {
    let bytes = candidate.staged.copy.map()?;
    candidate.voucher = trust.judge(&candidate.staged, &bytes, &candidate.manifest)?;
    Ok(())
}

/// Another copy of the library of a version that is in memory, so that a second
/// instance of it can be started beside the first: its statics are its own.
///
/// What is copied is the private copy, which nobody else may change: the file
/// that was dropped may have gone.
pub(crate) fn copy_of(serving: &Serving, stager: &Stager) -> Result<Candidate, DeployError> {
    let candidate = inspect(stager.stage(serving.loaded().path())?)?;
    // A copy whose mark was cleared has a digest of its own.
    Ok(Candidate { id: serving.id().clone(), voucher: serving.voucher(), ..candidate })
}

/// Reads any file without running it, for people: nothing is copied.
///
/// # Errors
/// What inspection refuses; a file that cannot be read is refused by I/O.
pub(crate) fn read_manifest(path: &Path) -> Result<(Manifest, Vec<Hazard>), ReadError> {
    let unreadable = |source| ReadError::Io { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular { path: path.to_owned() });
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let inspected = inspect::inspect(&bytes, path)?;
    Ok((inspected.manifest, inspected.hazards))
}

/// A file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses it.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is a link, a folder, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// It is not a plugin.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

impl crate::failure::Failure for ReadError {
    fn code(&self) -> crate::failure::Code {
        use crate::failure::Code;
        match self {
            ReadError::Io { .. } => Code::StageUnreadable,
            ReadError::NotRegular { .. } => Code::StageNotRegular,
            ReadError::Inspect(error) => error.code(),
        }
    }
}

impl Candidate {
    /// Clears the mark that forbids unloading, in the private copy. The digest
    /// stays that of the file that was dropped.
    pub(super) fn apply_patch(&self) -> Result<(), DeployError> {
        let Some(patch) = self.patch else {
            return Ok(());
        };
        let path = self.staged.copy.path();
        let write = || -> io::Result<()> {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            OpenOptions::new().write(true).open(path)?.write_all_at(&patch.bytes, patch.offset)?;
            fs::set_permissions(path, Permissions::from_mode(0o400))
        };
        write().map_err(DeployError::Patch)
    }
}
