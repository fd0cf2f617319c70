//! The folder of a host's own, where nobody named one, and what is cleared from it.

use super::error::HostError;
use crate::rehearse;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Removes what a process before has left: copies of state among it.
pub(super) fn clear(folder: &Path) -> Result<(), HostError> {
    rehearse::remove(folder).map_err(|source| HostError::DataDirectory { path: folder.to_owned(), source })
}

/// `.<name>.replug` beside the plugin directory, so that each has its own.
pub(super) fn beside(plugin_dir: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(plugin_dir.file_name().unwrap_or_default());
    name.push(".replug");
    plugin_dir.parent().unwrap_or(plugin_dir).join(name)
}
