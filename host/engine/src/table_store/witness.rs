//! The witness of a volume: what is kept outside of its store's folder to tell
//! that the volume was there, and how far it had come.
//!
//! A folder cannot say that it was removed, and a copy of it not that there was
//! more. The witness is a second seal, elsewhere, written after the first one; so
//! it never says more than was acknowledged. It is not synced with each commit:
//! after a power loss it may say less than there was. Without a witness, as when
//! a store is opened for the first time or was brought from elsewhere, a store is
//! taken as it is, and witnessed from then on.

use super::disk::{private_folder, sync_folder};
use super::error::{TableStoreError, io_error};
use super::seal::{Seal, Sealed};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the witnesses of a store are, if it has any.
#[derive(Debug, Clone, Default)]
pub(super) struct Witnesses(Option<PathBuf>);

impl Witnesses {
    pub(super) fn in_folder(folder: Option<PathBuf>) -> Witnesses {
        Witnesses(folder)
    }

    /// What was seen last of a volume, by its name in the store; `None` if there
    /// was never one. A damaged witness only says that there was.
    pub(super) fn seen(&self, volume: &str) -> Result<Option<Sealed>, TableStoreError> {
        let Some(path) = self.path(volume).filter(|path| path.exists()) else { return Ok(None) };
        let (_, seen) = Seal::open(path)?;
        Ok(Some(seen.unwrap_or(Sealed { commit: 0, boot: 0 })))
    }

    /// Refuses to go on without a volume that was seen, unless that is accepted.
    pub(super) fn miss(&self, store: &Path, volume: &str, accept_loss: bool) -> Result<(), TableStoreError> {
        let Some(seen) = self.seen(volume)? else { return Ok(()) };
        let folder = store.join(volume);
        if !accept_loss {
            return Err(TableStoreError::Replaced { folder, commits: seen.commit });
        }
        tracing::warn!(folder = %folder.display(), commits = seen.commit, "a table store is gone");
        match self.path(volume) {
            Some(path) => fs::remove_file(&path).map_err(io_error("remove", &path)),
            None => Ok(()),
        }
    }

    /// The witness of a volume, from now on.
    pub(super) fn begin(&self, volume: &str, sealed: Sealed) -> Result<Option<Seal>, TableStoreError> {
        let Some((folder, path)) = self.0.as_ref().zip(self.path(volume)) else { return Ok(None) };
        if path.exists() {
            if let (seal, Some(_)) = Seal::open(path.clone())? {
                seal.write(sealed)?;
                seal.sync()?;
                return Ok(Some(seal));
            }
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        private_folder(folder).map_err(io_error("make", folder))?;
        let seal = Seal::create(path, sealed)?;
        // The folders above it may be new as well.
        let folders = folder.ancestors().take(3);
        for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
            sync_folder(folder).map_err(io_error("sync", folder))?;
        }
        Ok(Some(seal))
    }

    fn path(&self, volume: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(volume))
    }
}
