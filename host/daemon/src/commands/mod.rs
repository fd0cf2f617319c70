//! The verbs that talk to a host, and `inspect`, which needs none.
//!
//! Exit codes: 0 done, 1 refused, 2 usage (by the command line's parser), 3
//! host unreachable.

use crate::{
    cli::{HostArgs, Output},
    client::{self, ClientError},
    output::{row, table},
};
use hyper::Method;
use replug_host::failure::Failure;
use serde_json::Value;
use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

const REFUSED: u8 = 1;
const UNREACHABLE: u8 = 3;

/// `replug call`.
pub(crate) fn call(
    host: &HostArgs,
    name: &str,
    method: &str,
    data: Option<&str>,
    timeout_ms: u64,
) -> ExitCode {
    let body = match body(data) {
        Ok(body) => body,
        Err(error) => {
            eprintln!("error[request.invalid]: cannot read the body: {error}\n  next: check the file's name");
            return ExitCode::from(REFUSED);
        }
    };
    let path = format!("/v1/plugins/{name}/call/{method}");
    let headers = [("replug-timeout-ms", timeout_ms.to_string())];
    finish(client::request(&host.socket(), Method::POST, &path, &headers, body), |answer| {
        // A reader that went away is no failure of the call.
        let _ = io::stdout().write_all(&answer);
    })
}

fn body(data: Option<&str>) -> io::Result<Vec<u8>> {
    match data {
        None => Ok(Vec::new()),
        Some("@-") => {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            Ok(body)
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => fs::read(file),
            None => Ok(text.as_bytes().to_vec()),
        },
    }
}

/// `replug status`.
pub(crate) fn status(host: &HostArgs, watch: bool, output: Output) -> ExitCode {
    loop {
        let answer = client::request(&host.socket(), Method::GET, "/v1/status", &[], Vec::new());
        let redraws = watch && io::stdout().is_terminal();
        let code = finish(answer, |answer| {
            let text = match output {
                Output::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
                Output::Table => status_table(&serde_json::from_slice(&answer).unwrap_or_default()),
            };
            if redraws {
                // Home, the text, and nothing below it: no flicker.
                print!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
            } else {
                print!("{text}");
            }
            // A closed terminal ends the program at its next signal.
            let _ = io::stdout().flush();
        });
        if !watch || code != ExitCode::SUCCESS {
            return code;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn status_table(status: &Value) -> String {
    let none = Vec::new();
    let plugins = status["plugins"].as_array().unwrap_or(&none);
    let residents = status["residents"].as_u64().unwrap_or(0);
    let absent: Vec<&str> = plugins
        .iter()
        .filter(|plugin| {
            plugin["state"] == "absent" && plugin["versions"].as_array().is_some_and(|v| !v.is_empty())
        })
        .filter_map(|plugin| plugin["name"].as_str())
        .collect();
    let mut text = match (residents, absent.as_slice()) {
        (0, []) => {
            format!("all right: {} plugins, watching by {}\n\n", plugins.len(), text_of(&status["watching"]))
        }
        (0, names) => format!("attention: nothing serves of {}\n\n", names.join(", ")),
        (count, _) => format!("attention: {count} versions stay in memory that should be gone\n\n"),
    };
    let mut rows = vec![row([
        "PLUGIN",
        "STATE",
        "VERSION",
        "CALLS",
        "ERRORS",
        "IN FLIGHT",
        "PAUSE US",
        "UNLOADING",
        "PROVEN",
    ])];
    for plugin in plugins {
        let unloading = plugin["unloading"].as_array().unwrap_or(&none);
        let unloading: Vec<String> = unloading
            .iter()
            .map(|version| match version["pins"].as_array().filter(|pins| !pins.is_empty()) {
                Some(pins) => {
                    let pins: Vec<String> = pins.iter().map(text_of).collect();
                    format!("{} resident: {}", text_of(&version["id"]), pins.join("; "))
                }
                None => format!("{} {}", text_of(&version["id"]), text_of(&version["stage"])),
            })
            .collect();
        rows.push(vec![
            text_of(&plugin["name"]),
            text_of(&plugin["state"]),
            text_of(&plugin["active"]),
            text_of(&plugin["calls"]),
            text_of(&plugin["errors"]),
            text_of(&plugin["in_flight"]),
            text_of(&plugin["last_pause_us"]),
            if unloading.is_empty() { "-".to_owned() } else { unloading.join(", ") },
            text_of(&plugin["unloads_proven"]),
        ]);
    }
    text.push_str(&table(&rows));
    text
}

/// A JSON value as a cell.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `replug list`.
pub(crate) fn list(host: &HostArgs, output: Output) -> ExitCode {
    let answer = client::request(&host.socket(), Method::GET, "/v1/plugins", &[], Vec::new());
    finish(answer, |answer| match output {
        Output::Json => println!("{}", String::from_utf8_lossy(&answer)),
        Output::Table => {
            let plugins: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
            let mut rows = vec![row(["VERSION", "SERVES", "FILE"])];
            for plugin in &plugins {
                for version in plugin["versions"].as_array().unwrap_or(&Vec::new()) {
                    let serves = match (version["id"] == plugin["active"], version["refused"] == true) {
                        (true, _) => "yes",
                        (false, true) => "refused",
                        (false, false) => "no",
                    };
                    rows.push(vec![text_of(&version["id"]), serves.to_owned(), text_of(&version["path"])]);
                }
            }
            print!("{}", table(&rows));
        }
    })
}

/// `replug activate`.
pub(crate) fn activate(host: &HostArgs, name: &str, version: &str) -> ExitCode {
    let wanted = if version == "latest" { Value::Null } else { Value::from(version) };
    let body = serde_json::json!({ "version": wanted }).to_string().into_bytes();
    let headers = [("content-type", "application/json".to_owned())];
    let path = format!("/v1/plugins/{name}/activate");
    finish(client::request(&host.socket(), Method::POST, &path, &headers, body), |answer| {
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        println!("{} serves", text_of(&answer["active"]));
    })
}

/// `replug events`.
pub(crate) fn events(host: &HostArgs, follow: bool, since: u64) -> ExitCode {
    let path = format!("/v1/events?since={since}&follow={follow}");
    finish(client::stream(&host.socket(), &path, &mut io::stdout()), |()| {})
}

/// `replug inspect`.
pub(crate) fn inspect(file: &Path, output: Output) -> ExitCode {
    let (manifest, hazards) = match replug_host::inspect(file) {
        Ok(inspected) => inspected,
        Err(error) => {
            eprintln!("error[{}]: {error}\n  next: {}", error.code(), error.code().next_step());
            return ExitCode::from(REFUSED);
        }
    };
    let mut value = serde_json::to_value(&manifest).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        let hazards: Vec<Value> = hazards.iter().map(|hazard| Value::from(hazard.to_string())).collect();
        fields.insert("hazards".to_owned(), Value::from(hazards));
    }
    match output {
        Output::Json => println!("{value:#}"),
        Output::Table => {
            let none = serde_json::Map::new();
            let rows: Vec<Vec<String>> = value
                .as_object()
                .unwrap_or(&none)
                .iter()
                .map(|(name, value)| vec![name.clone(), cell(value)])
                .collect();
            print!("{}", table(&rows));
        }
    }
    ExitCode::SUCCESS
}

/// A field of a manifest as one cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        other => text_of(other),
    }
}

/// Prints the answer, or why there is none.
fn finish<T>(answer: Result<T, ClientError>, print: impl FnOnce(T)) -> ExitCode {
    match answer {
        Ok(answer) => {
            print(answer);
            ExitCode::SUCCESS
        }
        Err(ClientError::Refused(problem)) => {
            eprintln!("error[{}]: {}\n  next: {}", problem.code, problem.detail, problem.next);
            ExitCode::from(REFUSED)
        }
        Err(ClientError::Unreachable(why)) => {
            eprintln!("error[host.unreachable]: no host answers: {why}");
            eprintln!("  next: start one with `replug run`, or name its data directory with --data-dir");
            ExitCode::from(UNREACHABLE)
        }
    }
}
