//! Snapshots as files outside of the store, for people to keep and to carry:
//! written whole on their way out, checked whole on their way in.

use super::SnapshotStore;
use super::disk::{Disk, RealDisk, folder_of, write_durably};
use super::error::StoreError;
use crate::state::envelope::Envelope;
use std::fs;
use std::path::Path;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the bytes of an exported snapshot to a file that only its owner can
/// read, as a save does: beside it, confirmed by the disk, then renamed. A file
/// that was there is replaced whole, or stays as it is.
///
/// # Errors
/// [`StoreError::Io`] and [`StoreError::Sync`]; nothing half-written is left then.
pub fn write_export(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_export_on(&RealDisk, path, bytes)
}

impl SnapshotStore {
    /// The envelope that an exported file holds, for `plugin`. One of another
    /// plugin is taken only if it may be `foreign`, and is that plugin's own from
    /// then on. Nothing is saved.
    ///
    /// # Errors
    /// [`StoreError::Import`] if the bytes are no sound envelope,
    /// [`StoreError::TooLarge`], and [`StoreError::Foreign`].
    pub fn check_import(&self, plugin: &str, bytes: &[u8], foreign: bool) -> Result<Envelope, StoreError> {
        let (size, limit) = (bytes.len() as u64, self.options.max_file_bytes());
        if size > limit {
            return Err(StoreError::TooLarge { plugin: plugin.into(), size, limit });
        }
        let mut envelope = Envelope::open(bytes, self.options.max_state_bytes)
            .map_err(|source| StoreError::Import { source })?;
        if envelope.plugin != plugin && !foreign {
            return Err(StoreError::Foreign { wanted: plugin.into(), found: envelope.plugin });
        }
        plugin.clone_into(&mut envelope.plugin);
        Ok(envelope)
    }
}

pub(super) fn write_export_on(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // Of several exports to one file each has its own, and the last one stays.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder_of(path).join(format!(".{name}.{}-{now}.part", process::id()));
    write_durably(disk, &temporary, path, bytes).inspect_err(|_| {
        // Renamed already: it is whole, and was only not confirmed.
        let _ = fs::remove_file(&temporary);
    })
}
