//! One data directory, one host.

use super::error::HostError;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    sync::Arc,
};

/// Keeps other hosts out of a data directory. Shared by all that may still write
/// there: the last one to drop it unlocks it, or the system when the process ends.
#[derive(Debug)]
pub(super) struct DataLock {
    _file: File,
}

/// Locks the data directory.
pub(super) fn lock(data_dir: &Path) -> Result<Arc<DataLock>, HostError> {
    let unusable = |source| HostError::DataDirectory { path: data_dir.to_owned(), source };
    fs::create_dir_all(data_dir).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(data_dir.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unusable)?;
            return Err(HostError::Locked { path: data_dir.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(unusable)?;
    Ok(Arc::new(DataLock { _file: file }))
}
