//! `replug check`: the rehearsal of a version, by hand.

use crate::{
    checked,
    cli::{CheckArgs, Output},
    client::{self, Ask},
    config::Config,
    output,
    problem::Problem,
    refusal::refuse,
};
use hyper::Method;
use replug_host::{CheckWith, Host};
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Prints what a rehearsal of a file has seen; 0 only if a host would go on with it.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let is_running = |against: &PathBuf| against.as_os_str().eq_ignore_ascii_case("running");
    let is_against_running = args.against.as_ref().is_some_and(is_running);
    let found = if is_against_running { by_the_host(args) } else { by_hand(args) };
    let found = match found {
        Ok(found) => found,
        Err(problem) => return refuse(&problem),
    };
    match args.output {
        Output::Json => output::write(format!("{found:#}\n")),
        Output::Table => output::write(checked::as_text(&found)),
    };
    match checked::failure(&found) {
        None => ExitCode::SUCCESS,
        Some(problem) => refuse(&problem),
    }
}

/// Against a file, or nothing.
fn by_hand(args: &CheckArgs) -> Result<Value, Problem> {
    let config = match &args.config {
        None => Config::default(),
        Some(path) => Config::read(path).map_err(|error| Problem::of(&error).next(error.next_step()))?,
    };
    let rehearsal = config.rehearsal();
    // No host is started, and no folder looked into.
    let options = config.apply(Host::builder("."), true);
    let state = args.state.as_deref().map(read).transpose()?;
    let with = CheckWith { before: args.against.clone(), state };
    let folder = tempfile::tempdir().map_err(|error| {
        Problem::bad_request("there is no temporary folder for it").because(vec![error.to_string()])
    })?;
    let found = options.check(&args.file, &rehearsal, with, folder.path())?;
    Ok(checked::as_json(&found))
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &io::Error) -> Problem {
    Problem::bad_request(format!("cannot read {}", file.display()))
        .because(vec![error.to_string()])
        .next("name a file that `replug state export` wrote")
}

/// Against what serves: the host itself does it, with all that it has.
fn by_the_host(args: &CheckArgs) -> Result<Value, Problem> {
    if args.config.is_some() {
        return Err(Problem::bad_request("a host has its configuration, and takes no other")
            .next("leave --config out, or name a file with --against"));
    }
    let whole = |file: &Path| -> Result<String, Problem> {
        let whole = std::path::absolute(file).map_err(|error| unreadable(file, &error))?;
        let is_text = whole.into_os_string().into_string();
        is_text.map_err(|path| {
            Problem::bad_request(format!("the path {} is no text, and cannot be sent", path.display()))
        })
    };
    let state = args.state.as_deref().map(whole).transpose()?;
    let body = json!({ "file": whole(&args.file)?, "state": state }).to_string().into_bytes();
    let headers = [("content-type", "application/json".to_owned())];
    let ask = Ask { method: Method::POST, path: client::path(&["v1", "check"]), headers: &headers, body };
    let found = client::request(&args.host.socket(), ask)?;
    serde_json::from_slice(&found).map_err(|error| {
        Problem::bad_request("what answers is no host of this version").because(vec![error.to_string()])
    })
}
