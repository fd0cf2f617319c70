//! The rehearsal by hand, against what serves.

use super::{Api, blocking::blocking};
use crate::{
    checked,
    problem::{Checked, Problem},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::Value;
use std::{fs, path::PathBuf};

/// Files on this machine that the host may read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    file: PathBuf,
    /// A saved state; without it the one that serves now.
    state: Option<PathBuf>,
}

pub(super) async fn check(
    State(Api { host, rehearsal, .. }): State<Api>,
    Checked(Json(wanted)): Checked<Json<Wanted>>,
) -> Result<Json<Value>, Problem> {
    let Wanted { file, state } = wanted;
    if !file.is_absolute() || state.as_ref().is_some_and(|state| !state.is_absolute()) {
        return Err(Problem::bad_request("a file has to be named with its whole path"));
    }
    let found = blocking(move || -> Result<_, Problem> {
        let read = |path: PathBuf| {
            fs::read(&path).map_err(|error| {
                Problem::bad_request(format!("the host cannot read {}", path.display()))
                    .because(vec![error.to_string()])
            })
        };
        let state = state.map(read).transpose()?;
        Ok(host.check(file, &rehearsal, state)?)
    });
    Ok(Json(checked::as_json(&found.await?)))
}
