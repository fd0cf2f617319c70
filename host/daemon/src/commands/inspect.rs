//! `replug inspect`: what a plugin file says about itself.

use super::text_of;
use crate::{
    cli::Output,
    output::{self, table},
    problem::Problem,
    refusal::refuse,
};
use replug_host::artifact::trust::Statement;
use serde_json::Value;
use std::{path::Path, process::ExitCode};

/// Prints the manifest of a file and what may make it hard to unload.
pub(crate) fn inspect(file: &Path, format: Output) -> ExitCode {
    let (manifest, hazards) = match replug_host::inspect(file) {
        Ok(inspected) => inspected,
        Err(error) => return refuse(&Problem::of(&error)),
    };
    let mut value = serde_json::to_value(&manifest).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        let hazards: Vec<Value> = hazards.iter().map(|hazard| Value::from(hazard.to_string())).collect();
        fields.insert("hazards".to_owned(), Value::from(hazards));
        fields.insert("signed_comment".to_owned(), Value::from(Statement::of(&manifest).to_string()));
    }
    match format {
        Output::Json => {
            output::write(format!("{value:#}\n"));
        }
        Output::Table => {
            let none = serde_json::Map::new();
            let rows: Vec<Vec<String>> = value
                .as_object()
                .unwrap_or(&none)
                .iter()
                .map(|(name, value)| vec![name.clone(), cell(value)])
                .collect();
            output::write(table(&rows));
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
