//! The verbs that talk to a host, and `inspect`, which needs none.

mod status;
mod list;
mod state;
mod sweeps;
mod tables;
mod inspect;
mod check;

use crate::{
    cli::HostArgs,
    client::{self, Ask},
    output,
    problem::Problem,
    refusal::refuse,
};
pub(crate) use check::check;
use hyper::Method;
pub(crate) use inspect::inspect;
pub(crate) use list::list;
use serde_json::Value;
pub(crate) use state::state;
pub(crate) use status::status;
use std::{
    fs,
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};
pub(crate) use tables::tables;

/// How often what is watched is asked for.
const WATCH_EVERY: Duration = Duration::from_secs(1);

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
            let problem = Problem::bad_request(format!("cannot read the body from {}", source_of(data)));
            let next = "name a file that can be read after the @, or @- for standard input";
            return refuse(&problem.because(vec![error.to_string()]).next(next));
        }
    };
    let path = client::path(&["v1", "plugins", name, "call", method]);
    let headers = [("replug-timeout-ms", timeout_ms.to_string())];
    let ask = Ask { method: Method::POST, path, headers: &headers, body };
    finish(client::request(&host.socket(), ask), |answer| {
        output::write(answer);
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

/// Where the body is read from, in words.
fn source_of(data: Option<&str>) -> &str {
    match data.and_then(|text| text.strip_prefix('@')) {
        Some(file) if file != "-" => file,
        _ => "standard input",
    }
}

/// `replug activate`.
pub(crate) fn activate(host: &HostArgs, name: &str, version: &str) -> ExitCode {
    let wanted = if version == "latest" { Value::Null } else { Value::from(version) };
    let body = serde_json::json!({ "version": wanted }).to_string().into_bytes();
    let headers = [("content-type", "application/json".to_owned())];
    let path = client::path(&["v1", "plugins", name, "activate"]);
    let ask = Ask { method: Method::POST, path, headers: &headers, body };
    finish(client::request(&host.socket(), ask), |answer| {
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        output::write(format!("{} serves\n", text_of(&answer["active"])));
    })
}

/// `replug events`.
pub(crate) fn events(host: &HostArgs, follow: bool, since: u64) -> ExitCode {
    let ask = Ask::get(format!("/v1/events?since={since}&follow={follow}"));
    finish(client::stream(&host.socket(), ask, &mut io::stdout()), |()| {})
}

/// Prints the answer, or why there is none.
fn finish<T>(answer: Result<T, Problem>, print: impl FnOnce(T)) -> ExitCode {
    match answer {
        Ok(answer) => {
            print(answer);
            ExitCode::SUCCESS
        }
        Err(problem) => refuse(&problem),
    }
}

/// A JSON value as a cell.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
