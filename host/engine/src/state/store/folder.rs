//! What lies in a folder of the store, by its names; no file is opened.

use super::error::{StoreError, io_error};
use super::name::{Kind, Snapshot, classify};
use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A plugin's folder, by the names in it.
#[derive(Default)]
pub(super) struct Scan {
    /// Newest first.
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) problems: Vec<StoreError>,
}

pub(super) fn scan(folder: &Path) -> Result<Scan, StoreError> {
    let mut scan = Scan::default();
    for path in entries(folder)? {
        match classify(&path) {
            Kind::Snapshot(snapshot) => scan.snapshots.push(snapshot),
            Kind::Foreign => scan.problems.push(StoreError::ForeignName { path }),
            Kind::Temporary | Kind::Other => {}
        }
    }
    scan.snapshots.sort_by_key(|snapshot| Reverse(snapshot.sequence()));
    Ok(scan)
}

pub(super) fn remove_temporaries(folder: &Path) -> Result<(), StoreError> {
    for path in entries(folder)? {
        if let Kind::Temporary = classify(&path) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// The paths in a folder; none if there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listing => listing
            .and_then(|listing| listing.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(io_error("list", folder)),
    }
}
