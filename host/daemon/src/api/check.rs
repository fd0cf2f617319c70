//! The rehearsal by hand, against what serves.

use super::{Api, blocking::blocking};
use crate::{
    checked,
    problem::{Checked, Problem},
};
use axum::{Json, extract::State};
use replug_host::HostError;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Files on this machine that the host may read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    file: PathBuf,
    /// A saved state; without it the one that serves now.
    state: Option<PathBuf>,
}

/// Checks at a time, those that wait for their turn included.
pub(super) const CHECKS_MAX: usize = 8;

/// A file of so many bytes at most, and nothing that could be waited for.
fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > bytes_max {
        return Err(io::Error::other(format!("it is no file of {bytes_max} bytes at most")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) async fn check(
    State(Api { host, rehearsal, checks, .. }): State<Api>,
    Checked(Json(wanted)): Checked<Json<Wanted>>,
) -> Result<Json<Value>, Problem> {
    let Wanted { file, state } = wanted;
    if !file.is_absolute() || state.as_ref().is_some_and(|state| !state.is_absolute()) {
        return Err(Problem::bad_request("a file has to be named with its whole path"));
    }
    // Each takes a thread, and those that serve calls are of the same.
    let turn = checks.try_acquire_owned();
    let turn = turn.map_err(|_| Problem::from(HostError::Busy { waiting: CHECKS_MAX }))?;
    let found = blocking(move || -> Result<_, Problem> {
        let _turn = turn;
        let bytes_max = host.snapshots().import_bytes_max();
        let read = |path: PathBuf| {
            read(&path, bytes_max).map_err(|error| {
                Problem::bad_request(format!("the host cannot read {}", path.display()))
                    .because(vec![error.to_string()])
            })
        };
        let state = state.map(read).transpose()?;
        Ok(host.check(file, &rehearsal, state)?)
    });
    Ok(Json(checked::as_json(&found.await?)))
}
