//! `replug check`: the rehearsal of a version, by hand.

use super::text_of;
use crate::{
    cli::{CheckArgs, Output},
    client::{self, Ask},
    config::Config,
    output::{self, row, table},
    problem::Problem,
    refusal::refuse,
};
use replug_host::{
    CheckWith, Checked,
    failure::Code,
    rehearse::{RehearsalError, Report},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Prints what a rehearsal of a file has seen; 0 only if a host would go on with it.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let checked = match checked(args) {
        Ok(checked) => checked,
        Err(problem) => return refuse(&problem),
    };
    match args.output {
        Output::Json => output::write(format!("{:#}\n", as_json(&checked))),
        Output::Table => output::write(as_text(&checked)),
    };
    match &checked.verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&Problem::of(error)),
    }
}

fn checked(args: &CheckArgs) -> Result<Checked, Problem> {
    let (manifest, _) = replug_host::inspect(&args.file).map_err(|error| Problem::of(&error))?;
    let config = match &args.config {
        None => Config::default(),
        Some(path) => Config::read(path).map_err(|error| Problem::of(&error).next(error.next_step()))?,
    };
    let name = manifest.name.as_str();
    let (rehearsal, config, state_bytes_max) = config.check(name);
    let usual = CheckWith::default();
    let mut with = CheckWith { config, ..usual };
    with.state_bytes_max = state_bytes_max.unwrap_or(with.state_bytes_max);
    match &args.against {
        Some(running) if running == Path::new("running") => {
            let (library, state) = what_runs(args, name)?;
            (with.before, with.state) = (Some(library), state);
        }
        other => with.before.clone_from(other),
    }
    if let Some(file) = &args.state {
        with.state = Some(read(file)?);
    }
    let folder = tempfile::tempdir().map_err(|error| {
        Problem::bad_request("there is no temporary folder for it").because(vec![error.to_string()])
    })?;
    let checked = replug_host::check(&args.file, &rehearsal, with, folder.path());
    checked.map_err(|error| Problem::of(&error))
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    fs::read(file).map_err(|error| {
        Problem::bad_request(format!("cannot read {}", file.display()))
            .because(vec![error.to_string()])
            .next("name a file that `replug state export` wrote")
    })
}

/// The file of the version that serves on a host, and its state as it was saved last.
fn what_runs(args: &CheckArgs, name: &str) -> Result<(PathBuf, Option<Vec<u8>>), Problem> {
    let status = client::request(&args.host.socket(), Ask::get("/v1/status"))?;
    let status: Value = serde_json::from_slice(&status).unwrap_or_default();
    let none = Vec::new();
    let plugins = status["plugins"].as_array().unwrap_or(&none);
    let plugin = plugins.iter().find(|plugin| plugin["name"] == name);
    let versions = plugin.and_then(|plugin| plugin["versions"].as_array()).unwrap_or(&none);
    let active = plugin.map(|plugin| &plugin["active"]).filter(|active| active.is_string());
    let file = versions.iter().find(|version| Some(&version["id"]) == active);
    let path = file.and_then(|version| version["path"].as_str()).ok_or_else(|| {
        Problem::bad_request(format!("no version of {name} serves there whose file is present"))
            .next("name a file with --against, or leave that out")
    })?;
    let export = client::path(&["v1", "plugins", name, "state", "export"]);
    let state = match client::request(&args.host.socket(), Ask::get(export)) {
        Ok(state) => Some(state.into()),
        // None was saved yet: the one of a new instance stands for it.
        Err(problem) if problem.code == Code::StateUnknownSnapshot.as_str() => None,
        Err(problem) => return Err(problem),
    };
    Ok((path.into(), state))
}

fn as_json(checked: &Checked) -> Value {
    let Checked { manifest, hazards, report, verdict } = checked;
    let hazards: Vec<String> = hazards.iter().map(ToString::to_string).collect();
    let failure = verdict.as_ref().err().map(|error| {
        let problem = Problem::of(error);
        json!({
            "code": problem.code, "blame": problem.blame, "message": problem.detail, "next": problem.next,
        })
    });
    json!({
        "name": manifest.name, "version": manifest.version, "passed": verdict.is_ok(), "failure": failure,
        "hazards": hazards, "report": report,
    })
}

fn as_text(checked: &Checked) -> String {
    let Checked { manifest, hazards, report, verdict } = checked;
    let mut text = format!("{} {}\n\n{}", manifest.name, manifest.version, steps(report, verdict));
    for hazard in hazards {
        text.push_str(&format!("\nhazard: {hazard}"));
    }
    for (name, why) in report.absent() {
        text.push_str(&format!("\nnot protected by {name}: {why}"));
    }
    if let Some(state) = &report.state {
        text.push_str(&format!(
            "\nstate: schema {} with {} bytes, then {} with {} bytes; {}",
            state.from_schema, state.bytes_before, state.to_schema, state.bytes_after, state.way_back
        ));
    }
    let verdict = if verdict.is_ok() { "passed" } else { "refused" };
    text.push_str(&format!("\n{verdict} in {:.1} ms\n", report.total_us as f64 / 1e3));
    text
}

fn steps(report: &Report, verdict: &Result<(), RehearsalError>) -> String {
    let mut rows = vec![row(["STEP", "VERDICT", "US", "MEMORY KIB", "THREADS", "FILES"])];
    for done in &report.steps {
        let measured = &done.measured;
        let mut row = row([done.step.as_str(), "done"]);
        let figures = [measured.micros, measured.memory_kib, measured.threads, measured.descriptors];
        row.extend(figures.map(|figure| text_of(&Value::from(figure))));
        rows.push(row);
    }
    if let Some(step) = verdict.as_ref().err().and_then(RehearsalError::step) {
        rows.push(row([step.as_str(), "refused"]));
    }
    table(&rows)
}
