//! The operator's binary: runs a host, and talks to one that runs.
//!
//! It uses the engine's public API only. `run` serves it over a unix socket;
//! every other verb is a client of that socket, but for `inspect` and `demo`,
//! which need no host, and `rehearse`, which is the host's own child.

mod cli;
mod config;
mod problem;
mod refusal;
mod output;
mod checked;
mod api;
mod run;
mod client;
mod commands;
mod demo;

use clap::Parser;
use cli::{Cli, Verb};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Rehearse => replug_host::RehearsalHelper::default().run(),
        Verb::Run(args) => run::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Check(args) => commands::check(&args),
        Verb::Inspect { file, output } => commands::inspect(&file, output),
        Verb::Call { host, name, method, data, timeout_ms } => {
            commands::call(&host, &name, &method, data.as_deref(), timeout_ms)
        }
        Verb::Status { host, watch, output } => commands::status(&host, watch, output),
        Verb::List { host, output } => commands::list(&host, output),
        Verb::Activate { host, name, version } => commands::activate(&host, &name, &version),
        Verb::State { verb } => commands::state(verb),
        Verb::Tables { verb, show } => commands::tables(verb, &show),
        Verb::Events { host, follow, since } => commands::events(&host, follow, since),
    }
}
