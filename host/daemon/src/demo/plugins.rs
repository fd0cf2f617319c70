//! Builds the sample plugins with cargo.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The packages that the demo drops, in the order of its story.
const PACKAGES: [&str; 5] = ["markdown-v1", "markdown-v2", "limiter-v1", "limiter-v2", "limiter-v3"];

/// The built libraries by package name.
pub(super) fn build(workspace: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    println!("building {} sample plugins in {}", PACKAGES.len(), workspace.display());
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args([
        "build",
        "--release",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("cargo build failed with {}", output.status)));
    }
    let libraries: BTreeMap<String, PathBuf> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(library).collect();
    match PACKAGES.iter().find(|package| !libraries.contains_key(**package)) {
        Some(missing) => Err(io::Error::other(format!("cargo built no library of {missing}"))),
        None => Ok(libraries),
    }
}

/// The package and its library, of a message that tells about one.
fn library(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["kind"][0] != "cdylib" {
        return None;
    }
    let file = message["filenames"].as_array()?.iter().find_map(|file| {
        let file = file.as_str()?;
        file.ends_with(".so").then(|| PathBuf::from(file))
    })?;
    // The target of a cdylib is named after its package, with underscores.
    let package = message["target"]["name"].as_str()?.replace('_', "-");
    Some((package, file))
}
