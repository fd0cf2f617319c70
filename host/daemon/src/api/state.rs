//! Saved state over HTTP: listed, shown, carried away and in, restored.
//!
//! A snapshot travels as the bytes of its file, which both ends check.

use super::{Api, blocking::blocking, named};
use crate::problem::{Checked, Problem};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::BytesRejection},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use replug_host::{
    Host, Imported, Restored, ShownSnapshot, SnapshotStatus, failure::Code, state::store::Exported,
};
use serde::Deserialize;

/// The number of the snapshot that an answer holds.
const SNAPSHOT: HeaderName = HeaderName::from_static("replug-snapshot");

/// The routes; an import may have `import_bytes_max` bytes.
pub(super) fn routes(import_bytes_max: u64) -> Router<Api> {
    let limit = usize::try_from(import_bytes_max).unwrap_or(usize::MAX);
    Router::new()
        .route("/v1/state", get(all))
        .route("/v1/state/save", post(save))
        .route("/v1/plugins/{name}/state", get(list))
        .route("/v1/plugins/{name}/state/show", get(show))
        .route("/v1/plugins/{name}/state/export", get(export))
        .route("/v1/plugins/{name}/state/import", post(import).layer(DefaultBodyLimit::max(limit)))
        .route("/v1/plugins/{name}/state/restore", post(restore))
}

/// Which snapshot is meant; without a number the newest that is sound.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    snapshot: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    /// Whether it may be a snapshot of another plugin.
    #[serde(default)]
    foreign: bool,
}

async fn all(State(host): State<Host>) -> Result<Json<Vec<SnapshotStatus>>, Problem> {
    blocking(move || host.snapshots().list(None)).await.map(Json)
}

async fn list(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Vec<SnapshotStatus>>, Problem> {
    let name = named(&name)?;
    let listed = blocking({
        let (host, name) = (host.clone(), name.clone());
        move || host.snapshots().list(Some(&name))
    });
    let listed = listed.await?;
    // Without a version and without state, most likely a slip of the pen.
    if listed.is_empty() {
        super::find(&host, name.as_str())?;
    }
    Ok(Json(listed))
}

async fn save(State(host): State<Host>) -> Result<Json<serde_json::Value>, Problem> {
    let saved = host.save_state().await?;
    Ok(Json(serde_json::json!({ "saved": saved })))
}

async fn show(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Query(wanted)): Checked<Query<Wanted>>,
) -> Result<Json<ShownSnapshot>, Problem> {
    let name = named(&name)?;
    blocking(move || host.snapshots().show(&name, wanted.snapshot)).await.map(Json)
}

async fn export(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Query(wanted)): Checked<Query<Wanted>>,
) -> Result<Response, Problem> {
    let name = named(&name)?;
    let exported = blocking(move || host.snapshots().export(&name, wanted.snapshot)).await?;
    let Exported { snapshot, bytes } = exported;
    let headers =
        [(header::CONTENT_TYPE, "application/cbor".to_owned()), (SNAPSHOT, snapshot.sequence().to_string())];
    Ok((headers, bytes).into_response())
}

async fn import(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Query(origin)): Checked<Query<Origin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Imported>, Problem> {
    let name = named(&name)?;
    let file = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = host.snapshots().import_bytes_max();
            Problem::new(
                Code::StateTooLarge,
                format!("the file has more than {limit} bytes, which are allowed"),
            )
        }
        _ => rejection.into(),
    })?;
    // To check a large file takes a while, and comes before the outcome.
    let outcome =
        blocking(move || Ok::<_, Problem>(host.snapshots().import(&name, &file, origin.foreign))).await?;
    Ok(Json(outcome.await?))
}

async fn restore(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Json(wanted)): Checked<Json<Wanted>>,
) -> Result<Json<Restored>, Problem> {
    let name = named(&name)?;
    Ok(Json(host.snapshots().restore(&name, wanted.snapshot).await?))
}
