//! Tables over HTTP: how large they are, how far their sweeps are, and the
//! switch that pauses the sweep of a plugin. Rows are read through the plugin,
//! which alone knows what they mean.

use super::{Api, find, named, unknown};
use crate::problem::{Checked, Problem};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use replug_host::{Host, PluginStatus, TableStatus};
use serde::Serialize;

/// The routes.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/tables", get(all))
        .route("/v1/plugins/{name}/tables", get(list))
        .route("/v1/plugins/{name}/tables/pause", post(pause))
        .route("/v1/plugins/{name}/tables/resume", post(resume))
}

/// A table, and whose it is.
#[derive(Serialize)]
struct Listed {
    plugin: String,
    /// Whether the sweep of the plugin's tables is paused, be one running or not.
    sweep_paused: bool,
    #[serde(flatten)]
    table: TableStatus,
}

/// What became of the switch.
#[derive(Serialize)]
struct Switched {
    plugin: String,
    sweep_paused: bool,
}

async fn all(State(host): State<Host>) -> Json<Vec<Listed>> {
    Json(host.status().plugins.into_iter().flat_map(tables_of).collect())
}

async fn list(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Vec<Listed>>, Problem> {
    let name = named(&name)?;
    let plugin = host.status().plugins.into_iter().find(|plugin| plugin.name == name.as_str());
    plugin.map(|plugin| Json(tables_of(plugin).collect())).ok_or_else(|| unknown(name.as_str()))
}

fn tables_of(plugin: PluginStatus) -> impl Iterator<Item = Listed> {
    let PluginStatus { name, tables, sweep_paused, .. } = plugin;
    tables.into_iter().map(move |table| Listed { plugin: name.clone(), sweep_paused, table })
}

async fn pause(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Switched>, Problem> {
    switch(&host, &name, true)
}

async fn resume(
    State(host): State<Host>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Switched>, Problem> {
    switch(&host, &name, false)
}

fn switch(host: &Host, name: &str, pause: bool) -> Result<Json<Switched>, Problem> {
    let name = named(name)?;
    // Otherwise a slip of the pen would pause nothing, and say that it did.
    find(host, name.as_str())?;
    host.pause_sweep(&name, pause);
    Ok(Json(Switched { plugin: name.to_string(), sweep_paused: pause }))
}
