//! `replug state`: saved state in an operator's hands.

use super::{finish, text_of};
use crate::{
    cli::{HostArgs, Output, StateVerb},
    client::{self, Ask},
    output::{self, row, table, utc},
    problem::Problem,
};
use hyper::Method;
use replug_host::state::store::write_export;
use serde_json::{Value, json};
use std::{fs, path::Path, process::ExitCode};

/// Carries out what is asked of saved state.
pub(crate) fn state(verb: StateVerb) -> ExitCode {
    match verb {
        StateVerb::List { host, name, output } => list(&host, name.as_deref(), output),
        StateVerb::Show { host, name, snapshot, output } => show(&host, &name, snapshot, output),
        StateVerb::Export { host, name, file, snapshot } => export(&host, &name, snapshot, &file),
        StateVerb::Import { host, name, file, foreign } => import(&host, &name, &file, foreign),
        StateVerb::Restore { host, name, snapshot } => restore(&host, &name, snapshot),
        StateVerb::Save { host } => save(&host),
    }
}

fn list(host: &HostArgs, name: Option<&str>, format: Output) -> ExitCode {
    let path = match name {
        Some(name) => client::path(&["v1", "plugins", name, "state"]),
        None => client::path(&["v1", "state"]),
    };
    finish(client::request(&host.socket(), Ask::get(path)), |answer| match format {
        Output::Json => {
            output::write([&answer[..], b"\n"].concat());
        }
        Output::Table => {
            let snapshots: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
            let mut rows =
                vec![row(["PLUGIN", "SNAPSHOT", "TAKEN", "SCHEMA", "VERSION", "BYTES", "ON DISK", "SHA256"])];
            rows.extend(snapshots.iter().map(listed));
            output::write(table(&rows));
        }
    })
}

fn listed(snapshot: &Value) -> Vec<String> {
    let text = |field: &str| text_of(&snapshot[field]);
    let verdict = match snapshot["sha256"].as_str() {
        Some(sha256) => sha256.get(..SHA256_SHOWN).unwrap_or(sha256).to_owned(),
        None => format!("{}: {}", text("code"), text("message")),
    };
    vec![
        text("plugin"),
        text("sequence"),
        snapshot["taken_at_unix_ms"].as_u64().map_or_else(String::new, utc),
        text("schema_version"),
        text("plugin_version"),
        text("state_bytes"),
        text("file_bytes"),
        verdict,
    ]
}

/// Digits of a digest in a table, as in the names of the files.
const SHA256_SHOWN: usize = 8;

fn show(host: &HostArgs, name: &str, snapshot: Option<u64>, format: Output) -> ExitCode {
    let answer = client::request(&host.socket(), Ask::get(path_of(name, "show", snapshot)));
    finish(answer, |answer| {
        let shown: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let value = match format {
            Output::Json => &shown,
            Output::Table => &shown["state"],
        };
        output::write(format!("{value:#}\n"));
    })
}

fn export(host: &HostArgs, name: &str, snapshot: Option<u64>, file: &Path) -> ExitCode {
    let answer = client::request(&host.socket(), Ask::get(path_of(name, "export", snapshot)));
    let written = answer.and_then(|bytes| {
        write_export(file, &bytes).map_err(|error| {
            Problem::of(&error).next("name a file in a folder that you may write, with room for it")
        })?;
        Ok(bytes.len())
    });
    finish(written, |bytes| {
        output::write(format!("{} has the snapshot, {bytes} bytes\n", file.display()));
    })
}

fn import(host: &HostArgs, name: &str, file: &Path, foreign: bool) -> ExitCode {
    let read = fs::read(file).map_err(|error| {
        Problem::bad_request(format!("cannot read {}", file.display()))
            .because(vec![error.to_string()])
            .next("name a file that `replug state export` wrote")
    });
    let path = client::path(&["v1", "plugins", name, "state", "import"]);
    let answer = read.and_then(|body| {
        let path = format!("{path}?foreign={foreign}");
        client::request(&host.socket(), Ask { method: Method::POST, path, headers: &[], body })
    });
    finish(answer, |answer| {
        let imported: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let (snapshot, schema) = (text_of(&imported["snapshot"]), text_of(&imported["schema_version"]));
        output::write(format!("snapshot {snapshot} of {name}, of schema {schema}, is the newest\n"));
    })
}

fn restore(host: &HostArgs, name: &str, snapshot: Option<u64>) -> ExitCode {
    let body = json!({ "snapshot": snapshot }).to_string().into_bytes();
    let headers = [("content-type", "application/json".to_owned())];
    let path = client::path(&["v1", "plugins", name, "state", "restore"]);
    let ask = Ask { method: Method::POST, path, headers: &headers, body };
    finish(client::request(&host.socket(), ask), |answer| {
        output::write(restored(&serde_json::from_slice(&answer).unwrap_or_default()));
    })
}

/// What a restore did, and how it is undone.
fn restored(restored: &Value) -> String {
    let who = match restored["active"].as_str() {
        Some(active) => format!("{active} has"),
        None => "the next start restores".to_owned(),
    };
    let mut text = format!("{who} the state of snapshot {}\n", text_of(&restored["snapshot"]));
    if let (Some(loss), Some(before)) = (restored["loss"].as_str(), restored["before"].as_u64())
        && !loss.is_empty()
    {
        text.push_str(&format!("it lost {loss}; to undo this, restore snapshot {before}\n"));
    }
    text
}

fn save(host: &HostArgs) -> ExitCode {
    let path = client::path(&["v1", "state", "save"]);
    let ask = Ask { method: Method::POST, path, headers: &[], body: Vec::new() };
    finish(client::request(&host.socket(), ask), |answer| {
        let saved: Value = serde_json::from_slice(&answer).unwrap_or_default();
        output::write(format!("{} plugins saved\n", text_of(&saved["saved"])));
    })
}

fn path_of(name: &str, verb: &str, snapshot: Option<u64>) -> String {
    let path = client::path(&["v1", "plugins", name, "state", verb]);
    match snapshot {
        Some(number) => format!("{path}?snapshot={number}"),
        None => path,
    }
}
