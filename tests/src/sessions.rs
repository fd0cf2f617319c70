//! The sample plugin `sessions`, as tests of tables deploy it and ask it.
//!
//! # Panics
//! All of it, when the host or the plugin does not do as it should.

use crate::{
    artifacts,
    harness::{Harness, wait_until},
};
use replug_host::{HostBuilder, Plugin, TableStatus, id::PluginName};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// The plugin's name.
pub fn name() -> PluginName {
    "sessions".parse().expect("a name")
}

/// The version before is kept for longer than any test.
pub fn on_probation(host: HostBuilder) -> HostBuilder {
    host.probation(LONG)
}

/// Rows survive a crash of the process.
pub fn kept_by_the_process(host: HostBuilder) -> HostBuilder {
    host.config("sessions", json!({"durability": "process"}))
}

/// Has the tables be kept by the disk.
pub fn kept_by_the_disk(host: HostBuilder) -> HostBuilder {
    host.config("sessions", json!({"durability": "disk"}))
}

/// Drops a version, `major`.0.0, and waits until it serves.
pub fn deploy(harness: &mut Harness, major: u32) {
    let library = artifacts::plugin(&format!("sessions-v{major}"));
    harness.deploy(&library, &format!("sessions-{major}.0.0.so"), &format!("sessions@{major}.0.0"));
}

/// The same for an example of `sessions-core`.
pub fn deploy_example(harness: &mut Harness, example: &str, version: &str) {
    let library = artifacts::example("sessions-core", example);
    harness.deploy(&library, &format!("sessions-{version}.so"), &format!("sessions@{version}"));
}

/// What a method answers, as text.
pub fn call(sessions: &Plugin, method: &str, body: &str) -> String {
    let reply = sessions.call(method, body.as_bytes()).expect("no call fails");
    reply.text().expect("text").to_owned()
}

/// A session, as the version that serves shows it.
pub fn session(sessions: &Plugin, token: &str) -> Value {
    serde_json::from_str(&call(sessions, "get", token)).expect("JSON")
}

/// Opens a session.
pub fn open(sessions: &Plugin, token: &str, user: &str) {
    call(sessions, "open", &json!({"token": token, "user": user}).to_string());
}

/// What the status says of a table.
pub fn table(harness: &Harness, table: &str) -> TableStatus {
    let status = harness.host.status();
    let tables = &status.plugin("sessions").expect("is known").tables;
    tables.iter().find(|status| status.name == table).expect("is open").clone()
}

/// Waits until the tables are those of a version, and swept.
pub fn swept(harness: &Harness, schema: u32) -> TableStatus {
    wait_until("the sweep", || {
        let table = table(harness, "sessions");
        table.schema == schema && table.sweep.is_some_and(|sweep| sweep.done)
    });
    table(harness, "sessions")
}

/// Sessions, their hits, and entries of the index that point nowhere.
pub fn audit(sessions: &Plugin) -> (u64, u64, u64) {
    let audit: Value = serde_json::from_str(&call(sessions, "audit", "")).expect("JSON");
    let number = |name: &str| audit[name].as_u64().expect("a number");
    (number("sessions"), number("hits"), number("strays"))
}
