//! The calls that can fail while a store is used: the commit of a batch, and the
//! seal.
//!
//! A trait only so that tests can make them fail: a full or dying disk cannot be
//! had otherwise without being root.

use super::error::TableStoreError;
use super::seal::{Seal, Sealed};
use fjall::{OwnedWriteBatch, PersistMode};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

pub(super) trait Disk: Send + Sync {
    /// Makes the batch durable in this mode, whole or not at all.
    fn commit(&self, batch: OwnedWriteBatch, mode: PersistMode) -> fjall::Result<()> {
        // Without a mode it would stay in a buffer of this process.
        batch.durability(Some(mode)).commit()
    }

    fn seal(&self, seal: &Seal, sealed: Sealed) -> Result<(), TableStoreError> {
        seal.write(sealed)
    }
}

/// The real one.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Makes the folder, and those above it, if it is not there, and leaves it open
/// to its owner only.
pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
