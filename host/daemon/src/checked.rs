//! What a check has found, as JSON and as people read it: both ends use it, the host that
//! checked and the one who asked.

use crate::{
    output::{row, table},
    problem::Problem,
};
use replug_host::{Checked, rehearse::RehearsalError};
use serde_json::{Value, json};

/// All of it. A failure is a problem, with its code and the next step.
pub(crate) fn as_json(checked: &Checked) -> Value {
    let Checked { manifest, hazards, report, verdict } = checked;
    let hazards: Vec<String> = hazards.iter().map(ToString::to_string).collect();
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "passed": verdict.is_ok(),
        "failed_at": verdict.as_ref().err().and_then(RehearsalError::step),
        "failure": verdict.as_ref().err().map(Problem::of),
        "hazards": hazards,
        "report": report,
    })
}

/// Why it was refused; none if it passed.
pub(crate) fn failure(checked: &Value) -> Option<Problem> {
    let is_none = || Problem::bad_request("what answers is no host of this version");
    let passed = checked["passed"] == true;
    (!passed).then(|| serde_json::from_value(checked["failure"].clone()).unwrap_or_else(|_| is_none()))
}

/// As a table, with what has to be known beside it.
pub(crate) fn as_text(checked: &Value) -> String {
    let report = &checked["report"];
    let mut text =
        format!("{} {}\n\n{}", text_of(&checked["name"]), text_of(&checked["version"]), steps(checked));
    for hazard in list(&checked["hazards"]) {
        text.push_str(&format!("\nhazard: {}", text_of(hazard)));
    }
    for one in list(&report["protections"]).iter().filter(|one| one["absent"].is_string()) {
        text.push_str(&format!("\nnot there: {} ({})", text_of(&one["name"]), text_of(&one["absent"])));
    }
    text.push_str(&state(&report["state"]));
    for rows in list(&report["rows"]) {
        let [table, count, converted, back] =
            ["table", "rows", "converted", "way_back"].map(|key| text_of(&rows[key]));
        text.push_str(&format!(
            "\nrows of {table}: {count} looked at, {converted} converted, {back} with a way back"
        ));
    }
    text.push_str(&replayed(&report["replayed"]));
    let verdict = if checked["passed"] == true { "passed" } else { "refused" };
    let ms = report["total_us"].as_f64().unwrap_or(0.0) / 1e3;
    text.push_str(&format!("\n{verdict} in {ms:.1} ms\n"));
    text
}

fn state(state: &Value) -> String {
    if state.is_null() {
        return String::new();
    }
    let [from, before, to] = ["from_schema", "bytes_before", "to_schema"].map(|key| text_of(&state[key]));
    let after =
        state["bytes_after"].as_u64().map_or_else(String::new, |after| format!(" with {after} bytes"));
    let way = &state["way_back"];
    let way_back = match way["kind"].as_str() {
        Some("unchanged") => "the same schema".to_owned(),
        Some("steps") if way["same"] == true => format!("the way back gives the same {before} bytes"),
        Some("steps") => format!("the way back gives {} bytes, others", text_of(&way["bytes"])),
        Some("not_reached") => "it went no further".to_owned(),
        Some("not_tried") => "the way back is not tried on the way down".to_owned(),
        _ => format!("no way back: {}", text_of(&way["reason"])),
    };
    format!("\nstate: schema {from} with {before} bytes, then {to}{after}; {way_back}")
}

fn replayed(replayed: &Value) -> String {
    if replayed.is_null() {
        return String::new();
    }
    let [calls, left_out, differ] = ["calls", "left_out", "differ"].map(|key| text_of(&replayed[key]));
    let mut text =
        format!("\ncalls: {calls} made on both versions, {left_out} left out; {differ} answers differ");
    for other in list(&replayed["differing"]) {
        let [method, body, before, now] = ["method", "body", "before", "now"].map(|key| text_of(&other[key]));
        text.push_str(&format!("\n  {method} {body:?}: {before:?} before, {now:?} now"));
    }
    text
}

fn steps(checked: &Value) -> String {
    let mut rows = vec![row(["STEP", "VERDICT", "US", "MEMORY KIB", "THREADS", "FILES"])];
    for done in list(&checked["report"]["steps"]) {
        let mut row = row([done["step"].as_str().unwrap_or_default(), "done"]);
        row.extend(["micros", "memory_kib", "threads", "descriptors"].map(|key| text_of(&done[key])));
        rows.push(row);
    }
    if let Some(step) = checked["failed_at"].as_str() {
        // What is found out when a step is done belongs to it, and has no time of its own.
        let unfinished = &checked["report"]["unfinished"];
        let micros = if unfinished["step"] == step { text_of(&unfinished["micros"]) } else { String::new() };
        rows.push(row([step, "refused", &micros]));
    }
    table(&rows)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
