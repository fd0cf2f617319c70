//! The rehearsal of an upgrade, in a process of its own.
//!
//! Before a version is loaded into the host, a child process does all of the upgrade
//! that can be done beside the real one: it loads the library, prepares an instance with
//! the real configuration, migrates a copy of the real state and restores it, exports it
//! and migrates it back, runs the self-test, stops, drops and unloads, and proves the
//! unload. A crash, a hang or a leak there is a refused version, with the step and the
//! reason, and nothing happened to the host. `activate` is left out: what only one
//! version can have is taken by the real one.
//!
//! ```text
//! host: Request ─ socket ► helper: confine ─ load ─ prepare ─ migrate ─ … ─ unload
//!       Report  ◄ socket ─ a record before and after each step ┘
//!       the end of the process, its stderr, the time limit
//! ```
//!
//! The child confines itself before it loads anything: limits of memory, processor time
//! and descriptors, no file is written outside of its own folder (landlock), no network,
//! no other process (seccomp). That keeps mistakes from the rest of the machine; it is
//! no wall against malice, which signatures are for. What the kernel does not offer is
//! reported as absent.
//!
//! This module runs the child and reads what it says. What the child does is the
//! pipeline's, since it is the same code.

mod wire;
mod error;
mod confine;
mod heard;
mod scratch;
mod child;

pub(crate) use child::{Library, Subject, Upgrade, run};
pub(crate) use confine::confine;
pub use error::RehearsalError;
pub(crate) use heard::LINE_CLOSED;
pub(crate) use scratch::remove;
use serde::Serialize;
use std::{ffi::OsString, path::PathBuf, time::Duration};
pub(crate) use wire::{
    Bounds, Limits, Record, Request, Said, WantedInterface, read_request, rows_from_bytes,
};
pub use wire::{Differing, Measured, Protection, Replayed, RowsWay, StateWay, Step, WayBack};

/// How versions are rehearsed.
///
/// ```
/// use replug_host::rehearse::Rehearsal;
/// use std::time::Duration;
///
/// // The binary `replug`, or one of your own that runs a `RehearsalHelper` first.
/// let rehearsal = Rehearsal::by("/usr/bin/replug").arg("rehearse").timeout(Duration::from_secs(5));
/// let host = replug_host::Host::builder("plugins").rehearsal(rehearsal);
/// # let _ = host;
/// ```
#[derive(Debug, Clone)]
#[must_use = "a host rehearses nothing unless it is handed this"]
pub struct Rehearsal {
    helper: PathBuf,
    args: Vec<OsString>,
    timeout: Duration,
    limits: Limits,
}

/// What the helper itself takes, with a plugin that takes nothing.
const MEMORY_MIN: u64 = 64 * 1024 * 1024;
const DESCRIPTORS_MIN: u64 = 32;

/// The longest time limit; more is meant as "no limit", and can be reckoned with.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Rehearsal {
    /// By this program, which runs a [`RehearsalHelper`](crate::RehearsalHelper).
    pub fn by(helper: impl Into<PathBuf>) -> Rehearsal {
        Rehearsal {
            helper: helper.into(),
            args: Vec::new(),
            timeout: Duration::from_secs(10),
            limits: Limits {
                memory_bytes: 4 * 1024 * 1024 * 1024,
                threads: 256,
                descriptors: 1024,
                file_bytes: 1024 * 1024 * 1024,
                processor_s: 0,
                replay_ms: 0,
            },
        }
    }

    /// An argument for the helper.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Rehearsal {
        self.args.push(arg.into());
        self
    }

    /// How long a rehearsal may take before it is killed. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Rehearsal {
        self.timeout = timeout.min(FOREVER);
        self
    }

    /// The memory that the child may write to, in bytes. Default 4 GiB.
    pub fn memory_bytes_max(mut self, bytes: u64) -> Rehearsal {
        self.limits.memory_bytes = bytes;
        self
    }

    /// Threads that the plugin may have when a step has ended. Default 256.
    pub fn threads_max(mut self, threads: u64) -> Rehearsal {
        self.limits.threads = threads;
        self
    }

    /// Files that the child may have open. Default 1024.
    pub fn descriptors_max(mut self, descriptors: u64) -> Rehearsal {
        self.limits.descriptors = descriptors;
        self
    }
}

impl Rehearsal {
    /// Why nothing could be rehearsed with these limits.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let Limits { memory_bytes, descriptors, .. } = self.limits;
        if self.timeout.is_zero() {
            return Some("a timeout of 0 ms leaves no time for anything".to_owned());
        }
        if memory_bytes < MEMORY_MIN {
            return Some(format!("{memory_bytes} bytes of memory are too few; {MEMORY_MIN} are the least"));
        }
        let are_few = descriptors < DESCRIPTORS_MIN;
        are_few.then(|| format!("{descriptors} descriptors are too few; {DESCRIPTORS_MIN} are the least"))
    }
}

/// What a rehearsal saw, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// What confined the child, and what the kernel does not offer.
    pub protections: Vec<Protection>,
    /// The steps that were done, in order.
    pub steps: Vec<Done>,
    /// The step at which it ended, if that was not done.
    pub unfinished: Option<Unfinished>,
    /// What became of the state, if there was some.
    pub state: Option<StateWay>,
    /// What became of some rows of tables.
    pub rows: Vec<RowsWay>,
    /// What came of calls that were made on the version before and on it.
    pub replayed: Option<Replayed>,
    /// All of it, in microseconds, with the start of the child.
    pub total_us: u64,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Which.
    pub step: Step,
    /// What it took, and what the child held after it.
    #[serde(flatten)]
    pub measured: Measured,
}

/// A step that was begun and not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// Which.
    pub step: Step,
    /// How long it was under way, in microseconds, with the end of the child.
    pub micros: u64,
}

impl Report {
    /// Protections that the kernel does not offer, by name, each with why.
    pub fn absent(&self) -> impl Iterator<Item = (&str, &str)> {
        self.protections.iter().filter_map(|one| Some((one.name.as_str(), one.absent.as_deref()?)))
    }
}
