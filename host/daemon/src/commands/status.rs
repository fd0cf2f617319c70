//! `replug status`: is everything all right, and what every plugin does.

use super::{WATCH_EVERY, text_of};
use crate::{
    cli::{HostArgs, Output},
    client::{self, Ask},
    output::{self, row, table},
    refusal::refuse,
};
use serde_json::Value;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    thread,
};

/// Prints the status; again and again, if asked to, for as long as somebody
/// reads it.
pub(crate) fn status(host: &HostArgs, watch: bool, format: Output) -> ExitCode {
    let redraws = watch && io::stdout().is_terminal();
    loop {
        let answer = match client::request(&host.socket(), Ask::get("/v1/status")) {
            Ok(answer) => answer,
            Err(problem) => return refuse(&problem),
        };
        let text = match format {
            Output::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
            Output::Table => status_table(&serde_json::from_slice(&answer).unwrap_or_default()),
        };
        let text = if redraws {
            // Home, the text, and nothing below it: no flicker.
            format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
        } else {
            text
        };
        if !output::write(text) || !watch {
            return ExitCode::SUCCESS;
        }
        thread::sleep(WATCH_EVERY);
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
    let distrusted: Vec<String> = plugins
        .iter()
        .flat_map(|plugin| plugin["distrusted"].as_array().into_iter().flatten())
        .map(|version| text_of(&version["reason"]))
        .collect();
    let mut attention = distrusted;
    if !absent.is_empty() {
        attention.push(format!("nothing serves of {}", absent.join(", ")));
    }
    if residents > 0 {
        attention.push(format!("{residents} versions stay in memory that should be gone"));
    }
    let mut text = match attention.as_slice() {
        [] => format!("all right: {} plugins, watching by {}\n", plugins.len(), text_of(&status["watching"])),
        all => format!("attention: {}\n", all.join("; ")),
    };
    if status["trusts_anyone"] == true {
        text += "for development: files are loaded whoever made them\n";
    }
    text.push('\n');
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
