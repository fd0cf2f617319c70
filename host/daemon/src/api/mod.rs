//! The HTTP API, `/v1`, over the engine's public handles.
//!
//! Every refusal is a problem with a stable code, also those of requests that
//! no handler sees.

mod blocking;
mod call;
mod check;
mod follow;
mod state;
mod tables;

use crate::problem::{Checked, Problem, unknown_route, wrong_method};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRef, Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use blocking::blocking;
use call::call;
use check::{CHECKS_MAX, check};
use follow::{Followers, events};
use replug_host::{CallError, Host, HostStatus, Plugin, PluginStatus, id::PluginName, rehearse::Rehearsal};
use serde::Deserialize;
use std::{io, sync::Arc};
use tokio::sync::Semaphore;

/// Largest body of a call over HTTP; the engine's own limit applies first.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What handlers share.
#[derive(Clone)]
struct Api {
    host: Host,
    followers: Followers,
    /// How files are checked.
    rehearsal: Arc<Rehearsal>,
    /// How many at a time.
    checks: Arc<Semaphore>,
}

impl FromRef<Api> for Host {
    fn from_ref(api: &Api) -> Host {
        api.host.clone()
    }
}

impl FromRef<Api> for Followers {
    fn from_ref(api: &Api) -> Followers {
        api.followers.clone()
    }
}

/// The routes.
///
/// # Errors
/// When the system gives no thread for the followers of events.
pub(crate) fn router(host: Host, rehearsal: Rehearsal) -> io::Result<Router> {
    let followers = Followers::of(&host)?;
    let import_bytes_max = host.snapshots().import_bytes_max();
    Ok(Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/status", get(status))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plugins/{name}", get(plugin))
        .route("/v1/plugins/{name}/methods", get(methods))
        .route("/v1/plugins/{name}/call/{method}", post(call))
        .route("/v1/plugins/{name}/activate", post(activate))
        .route("/v1/events", get(events))
        .route("/v1/check", post(check))
        .merge(state::routes(import_bytes_max))
        .merge(tables::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Api {
            host,
            followers,
            rehearsal: Arc::new(rehearsal),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
        }))
}

async fn status(State(host): State<Host>) -> Json<HostStatus> {
    Json(host.status())
}

async fn plugins(State(host): State<Host>) -> Json<Vec<PluginStatus>> {
    Json(host.status().plugins)
}

async fn plugin(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<PluginStatus>, Problem> {
    host.status().plugin(&name).cloned().map(Json).ok_or_else(|| unknown(&name))
}

async fn methods(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Response, Problem> {
    let plugin = find(&host, &name)?;
    let listed = blocking(move || plugin.methods()).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], listed).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activate {
    version: Option<String>,
}

async fn activate(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Json(wanted)): Checked<Json<Activate>>,
) -> Result<Json<serde_json::Value>, Problem> {
    let name = named(&name)?;
    let version = match wanted.version.as_deref() {
        None => None,
        Some(text) => Some(
            text.parse::<semver::Version>()
                .map_err(|error| Problem::bad_request(format!("{text:?} is not a version: {error}")))?,
        ),
    };
    let active = host.activate(&name, version).await?;
    Ok(Json(serde_json::json!({ "active": active.to_string() })))
}

/// A name that a plugin can have.
fn named(name: &str) -> Result<PluginName, Problem> {
    name.parse().map_err(|error| Problem::bad_request(format!("{error}")))
}

fn find(host: &Host, name: &str) -> Result<Plugin, Problem> {
    host.find(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    CallError::UnknownPlugin { name: name.to_owned() }.into()
}
