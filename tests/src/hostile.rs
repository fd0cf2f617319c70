//! The hostile plugin in a harness: started with its faults, dropped version by
//! version, and what has to be true after one of them was refused.

use crate::{
    artifacts,
    harness::{Harness, How},
};
use replug_host::{HostBuilder, PluginState, event::FailureReport};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};

/// How long a hook may run where one hangs: much longer than a sound hook takes, also
/// on a busy machine.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// A configuration in which only `version` misbehaves.
pub fn only(version: &str, faults: Value) -> Value {
    json!({ "only_version": version, "faults": faults })
}

/// A configuration in which only the state that `version` gives is wrong.
pub fn state_of(version: &str, state: Value) -> Value {
    json!({ "only_version": version, "state": state })
}

/// A file that every hook of every version of hostile writes a line to.
pub struct Trace {
    /// Where it stands, and what else a test puts there.
    pub folder: tempfile::TempDir,
}

impl Trace {
    /// One in a new folder.
    ///
    /// # Panics
    /// When there can be none.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Trace {
        Trace { folder: tempfile::tempdir().expect("a directory") }
    }

    /// What the configuration names as `trace`.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("hooks")
    }

    /// Whether a hook began, by its line: `1.0.0 Freeze`.
    ///
    /// # Panics
    /// When none has begun.
    pub fn has(&self, line: &str) -> bool {
        fs::read_to_string(self.path()).expect("was written").lines().any(|written| written == line)
    }
}

/// A host on which hostile 1.0.0 has counted to five.
///
/// # Panics
/// When it does not get so far, as all functions here.
pub fn counting(config: Value, adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Harness {
    counting_as_built(artifacts::hostile, config, adjust)
}

/// The same, with 1.0.0 from elsewhere.
pub fn counting_as_built(
    build: Build,
    config: Value,
    adjust: impl FnOnce(HostBuilder) -> HostBuilder,
) -> Harness {
    let mut harness = Harness::with(|options| adjust(options.config("hostile", config)));
    drop_built(&harness, build, 1);
    harness.published("hostile@1.0.0");
    for _ in 0..5 {
        harness.plugin("hostile").call("add", b"1").expect("adds");
    }
    harness
}

/// What builds its packages.
pub type Build = fn(&str) -> PathBuf;

/// Drops the file of a major version.
pub fn drop_version(harness: &Harness, major: u32) {
    drop_built(harness, artifacts::hostile, major);
}

/// The same, from elsewhere.
pub fn drop_built(harness: &Harness, build: Build, major: u32) {
    let library = build(&format!("hostile-v{major}"));
    harness.drop_file(How::Rename, &library, &format!("hostile-{major}.0.0.so"));
}

/// Drops 2.0.0, which is refused with `code`; 1.0.0 serves on with its state.
pub fn refused_and_kept(harness: &mut Harness, code: &str) -> FailureReport {
    drop_version(harness, 2);
    let failure = harness.not_deployed("hostile@2.0.0");
    assert_eq!(failure.code, code, "{failure}");
    assert!(!failure.next.is_empty());
    kept(harness, "1.0.0");
    failure
}

/// `version` serves on, and has lost nothing of what was counted.
pub fn kept(harness: &Harness, version: &str) {
    let hostile = harness.plugin("hostile");
    assert_eq!(hostile.version().expect("serves").version.to_string(), version);
    assert_eq!(count(harness), "5");
    assert_eq!(hostile.call("add", b"1").expect("adds").text(), Ok("6"));
}

/// The count.
pub fn count(harness: &Harness) -> String {
    let reply = harness.plugin("hostile").call("count", b"").expect("counts");
    reply.text().expect("text").to_owned()
}

/// Ends all that hangs in the version that serves.
pub fn release(harness: &Harness) {
    harness.plugin("hostile").call("release", b"").expect("releases");
}

/// Whether it serves.
pub fn state(harness: &Harness) -> PluginState {
    harness.host.status().plugin("hostile").expect("known").state
}

/// Threads of the version that serves.
pub fn threads(harness: &Harness) -> usize {
    harness.host.status().plugin("hostile").expect("known").threads
}
