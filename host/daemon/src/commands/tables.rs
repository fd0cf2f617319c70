//! `replug tables`: how large the tables of plugins are, how far their sweeps
//! are, and the switch that pauses them.

use super::{WATCH_EVERY, finish, sweeps::Screen, text_of};
use crate::{
    cli::{HostArgs, Output, TablesArgs, TablesVerb},
    client::{self, Ask},
    output::{self, duration, row, table},
    refusal::refuse,
};
use hyper::Method;
use serde_json::Value;
use std::{process::ExitCode, thread};

/// Shows tables, or does to their sweeps what is asked.
pub(crate) fn tables(verb: Option<TablesVerb>, args: &TablesArgs) -> ExitCode {
    match verb {
        None => show(args),
        Some(TablesVerb::Pause { host, name }) => switch(&host, &name, "pause"),
        Some(TablesVerb::Resume { host, name }) => switch(&host, &name, "resume"),
    }
}

/// Prints the tables; again and again, if asked to, for as long as somebody
/// reads it.
fn show(TablesArgs { host, name, watch, output: format }: &TablesArgs) -> ExitCode {
    let path = match name {
        Some(name) => client::path(&["v1", "plugins", name, "tables"]),
        None => client::path(&["v1", "tables"]),
    };
    let mut screen = if *watch && *format == Output::Table { Screen::on_stdout() } else { None };
    loop {
        let answer = match client::request(&host.socket(), Ask::get(path.as_str())) {
            Ok(answer) => answer,
            Err(problem) => {
                // What it shows is true no more, and stands where the reason goes.
                drop(screen);
                return refuse(&problem);
            }
        };
        let is_read = match format {
            Output::Json => output::write([&answer[..], b"\n"].concat()),
            Output::Table => {
                let tables: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
                let text = listed(&tables);
                match &mut screen {
                    Some(screen) => {
                        screen.draw(&text, &tables);
                        true
                    }
                    None => output::write(text),
                }
            }
        };
        if !is_read || !watch {
            return ExitCode::SUCCESS;
        }
        thread::sleep(WATCH_EVERY);
    }
}

fn listed(tables: &[Value]) -> String {
    let mut rows = vec![row([
        "PLUGIN",
        "TABLE",
        "ROWS",
        "BYTES",
        "SCHEMA",
        "DURABILITY",
        "SWEEP",
        "DONE",
        "LEFT",
        "ROWS/S",
        "TIME LEFT",
    ])];
    rows.extend(tables.iter().map(|table| {
        let (text, sweep) = (|field: &str| text_of(&table[field]), &table["sweep"]);
        let state = state(table);
        let left = sweep["left_s"].as_f64().filter(|_| state.starts_with(RUNNING));
        vec![
            text("plugin"),
            text("name"),
            text("rows"),
            text("bytes"),
            text("schema"),
            text("durability"),
            state,
            text_of(&sweep["rows_done"]),
            text_of(&sweep["rows_left"]),
            sweep["rows_per_s"].as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
            left.map_or_else(|| "-".to_owned(), duration),
        ]
    }));
    table(&rows)
}

/// The state of a sweep that is neither over nor paused.
const RUNNING: &str = "running";

/// What the sweep of a table is at. One that is paused before it has begun has
/// no progress, and is paused all the same.
fn state(table: &Value) -> String {
    let sweep = &table["sweep"];
    let state = match (sweep["done"].as_bool(), table["sweep_paused"] == true) {
        (Some(true), _) => "done",
        (_, true) => "paused",
        (Some(false), false) => RUNNING,
        (None, false) => "-",
    };
    match sweep["failed"].as_u64() {
        None | Some(0) => state.to_owned(),
        Some(failed) => format!("{state}, {failed} failed"),
    }
}

fn switch(host: &HostArgs, name: &str, verb: &str) -> ExitCode {
    let path = client::path(&["v1", "plugins", name, "tables", verb]);
    let ask = Ask { method: Method::POST, path, headers: &[], body: Vec::new() };
    finish(client::request(&host.socket(), ask), |answer| {
        let switched: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let now = if switched["sweep_paused"] == true { "is paused" } else { "is not paused" };
        output::write(format!("the sweep of {} {now}\n", text_of(&switched["plugin"])));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of_sweep(sweep: Value, paused: bool) -> String {
        let table = json!({
            "plugin": "sessions", "sweep_paused": paused, "name": "by_user", "rows": 500, "bytes": 65536,
            "schema": 2, "durability": "disk", "sweep": sweep,
        });
        let text = listed(&[table]);
        let line = text.lines().nth(1).expect("a table");
        line.split("disk").nth(1).expect("a sweep").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_sweep_is_shown_with_what_it_is_at() {
        let sweep = |failed: u64, done: bool| {
            let (rows_done, rows_left) = if done { (500, 0) } else { (100, 400) };
            json!({
                "rows_done": rows_done, "rows_left": rows_left, "failed": failed, "rows_per_s": 6.4,
                "left_s": 62.5, "done": done,
            })
        };
        assert_eq!(of_sweep(sweep(0, false), false), "running 100 400 6 1 min 3 s");
        assert_eq!(of_sweep(sweep(2, false), false), "running, 2 failed 100 400 6 1 min 3 s");
        assert_eq!(of_sweep(sweep(0, false), true), "paused 100 400 6 -");
        assert_eq!(of_sweep(sweep(0, true), true), "done 500 0 6 -");
        assert_eq!(of_sweep(Value::Null, true), "paused - - - -");
        assert_eq!(of_sweep(Value::Null, false), "- - - - -");
    }
}
