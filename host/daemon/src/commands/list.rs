//! `replug list`: the versions that are present.

use super::{finish, text_of};
use crate::{
    cli::{HostArgs, Output},
    client::{self, Ask},
    output::{self, row, table},
};
use serde_json::Value;
use std::process::ExitCode;

/// Prints the versions whose files are present.
pub(crate) fn list(host: &HostArgs, format: Output) -> ExitCode {
    let answer = client::request(&host.socket(), Ask::get("/v1/plugins"));
    finish(answer, |answer| match format {
        Output::Json => {
            output::write([&answer[..], b"\n"].concat());
        }
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
            output::write(table(&rows));
        }
    })
}
