//! `replug demo`: the main job, live. Plugins are dropped, replaced, deleted
//! and stepped back under load, and every answer is checked.
//!
//! It uses what every embedder has: the engine's public API, and files copied
//! into a directory. It succeeds only if no call failed, no update was lost,
//! and every version that left was proven to be unmapped.

mod corpus;
mod load;
mod plugins;
mod story;
mod table;

use crate::{
    problem::{Problem, causes},
    refusal::refuse,
};
use replug_host::HostError;
use std::{path::PathBuf, process::ExitCode};

/// Options of `replug demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Threads that call the plugins.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Seconds that each step is given under load.
    #[arg(long, default_value_t = 2.0)]
    pace: f64,
    /// Where the sample plugins' workspace is; default: where this binary was
    /// built.
    #[arg(long)]
    workspace: Option<PathBuf>,
}

/// Runs the demo; 0 only when everything held.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match story::tell(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => match error.downcast_ref::<HostError>() {
            Some(error) => refuse(&Problem::of(error)),
            None => {
                let told = error.to_string();
                let why = [vec![told.clone()], causes(error.as_ref(), &told)].concat().join(": ");
                eprintln!("error: the demo could not go on\n  why:   {why}");
                ExitCode::FAILURE
            }
        },
    }
}
