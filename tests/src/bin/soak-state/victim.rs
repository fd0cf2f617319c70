//! What a host that is to be killed is told, and what its threads share.

use crate::words::trouble;
use replug_host::{CallError, Host, HostStatus, Plugin};
use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// How a victim is told what to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Role {
    /// Where the directories of plugins, data and libraries are.
    pub(crate) home: PathBuf,
    /// `process` or `disk`.
    pub(crate) durability: String,
    /// What it does follows from this.
    pub(crate) seed: u64,
    /// It says what is there once everything is swept, and ends.
    pub(crate) only_sweeps: bool,
}

impl Role {
    /// The first of its arguments.
    pub(crate) const WORD: &str = "--victim";

    pub(crate) fn words(&self) -> Vec<String> {
        let Role { home, durability, seed, only_sweeps } = self;
        let home = home.display().to_string();
        vec![Self::WORD.into(), home, durability.clone(), seed.to_string(), only_sweeps.to_string()]
    }

    pub(crate) fn of(words: &[&str]) -> Option<Role> {
        let [Self::WORD, home, durability, seed, only_sweeps] = words else { return None };
        Some(Role {
            home: home.into(),
            durability: (*durability).to_owned(),
            seed: seed.parse().ok()?,
            only_sweeps: only_sweeps.parse().ok()?,
        })
    }
}

/// What the threads of a victim share.
pub(crate) struct Victim {
    pub(crate) host: Host,
    pub(crate) sessions: Plugin,
    pub(crate) home: PathBuf,
    /// The host is being shut down, and refuses calls and changes.
    pub(crate) is_ending: AtomicBool,
}

impl Victim {
    /// Tells of a failure, unless the host is on its way out. Whoever met it ends.
    pub(crate) fn failed(&self, what: &str, why: impl fmt::Display) {
        if !self.is_ending.load(Ordering::Acquire) {
            trouble(format_args!("{what}: {why}"));
        }
    }

    pub(crate) fn call(&self, method: &str, body: &str) -> Result<String, CallError> {
        Ok(self.sessions.call(method, body.as_bytes())?.text().unwrap_or_default().to_owned())
    }

    pub(crate) fn status(&self) -> HostStatus {
        self.host.status()
    }
}

/// The name of the file that holds a version.
pub(crate) fn file_name(major: u64) -> String {
    format!("sessions-{major}.0.0.so")
}

/// Renames a version's library into the plugin directory.
pub(crate) fn drop_in(home: &Path, major: u64) -> io::Result<()> {
    let name = file_name(major);
    let beside = home.join(&name);
    fs::copy(home.join("libraries").join(&name), &beside)?;
    fs::rename(beside, home.join("plugins").join(name))
}

/// What was found when the host had started.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The sessions that are there.
    pub(crate) there: BTreeSet<String>,
    /// Those that only one of the tables knows.
    pub(crate) strays: BTreeSet<String>,
}

/// The major of a version, `name@semver+digest8` or `semver`.
pub(crate) fn major_of(version: &str) -> u64 {
    let semver = version.split_once('@').map_or(version, |(_, semver)| semver);
    semver.split('.').next().and_then(|major| major.parse().ok()).expect("a version begins with its major")
}
