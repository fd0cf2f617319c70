//! The file-system calls of a save, in the order in which one makes them.
//!
//! A trait only so that tests can make each of them fail: a full or dying disk
//! cannot be had otherwise without being root. Reading and clean-up use std
//! directly.

use super::error::{StoreError, io_error, sync_error};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(super) trait Disk: Send + Sync {
    /// A new file that only its owner can read.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Makes the content of the file durable.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Makes the names in the folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// The real one.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Writes a file that is either not there or whole, and confirmed by the disk.
/// What a failure leaves is the caller's to remove.
pub(super) fn write_durably(
    disk: &dyn Disk,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let mut file = disk.create(temporary).map_err(io_error("create", temporary))?;
    disk.write(&mut file, bytes).map_err(io_error("write", temporary))?;
    disk.sync(&file).map_err(sync_error(temporary))?;
    drop(file);
    disk.rename(temporary, path).map_err(io_error("rename", temporary))?;
    let folder = folder_of(path);
    disk.sync_folder(folder).map_err(sync_error(folder))
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes the folder, and those above it, if it is not there, and leaves it open
/// to its owner only.
pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if fs::metadata(folder)?.permissions().mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
