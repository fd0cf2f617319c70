//! Passes on what the note says about the build: compiler and target.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo::rustc-env=REPLUG_RUSTC_VERSION={version}");
    println!("cargo::rustc-env=REPLUG_TARGET={}", env::var("TARGET").unwrap_or_default());
}
