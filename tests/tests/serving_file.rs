//! What becomes of the file of the version that serves: bad bytes, other bytes,
//! another name, a copy beside it. None of it interrupts calls.

use replug_host::{SameVersion, event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    sync::Arc,
};

/// Whether markdown 1.0.0 answers.
fn serves(harness: &Harness) -> bool {
    let markdown = harness.plugin("markdown");
    markdown.version().is_ok_and(|id| id.version.to_string() == "1.0.0")
        && markdown.call("render", b"*hi*").is_ok_and(|html| html.text() == Ok("<p><em>hi</em></p>\n"))
}

/// Waits until the host has carried out whatever it made of the files so far: a
/// plugin whose file went away later has been retired.
fn settle(harness: &mut Harness) {
    harness.deploy(&artifacts::plugin("threads-v1"), "probe.so", "threads@1.0.0");
    harness.delete("probe.so");
    harness.expect("retiring the probe", |event| {
        matches!(event.kind, EventKind::Retired) && is(event, "threads@1.0.0")
    });
}

/// Events about markdown.
fn count(events: &[Arc<replug_host::event::Event>], name: &str) -> usize {
    events
        .iter()
        .filter(|event| event.kind.name() == name && event.plugin.as_deref() == Some("markdown"))
        .count()
}

/// Once, an interrupted copy over the file that served took the plugin out of
/// service, or back to a lower version beside it.
#[test]
fn overwriting_the_serving_file_with_a_bad_one_takes_nothing_out_of_service() {
    let library = artifacts::plugin("markdown-v1");
    let bytes = fs::read(&library).expect("reads");
    let bad: [(&[u8], &str); 3] = [
        (&bytes[..bytes.len() / 2], "inspect.truncated"),
        (b"not a library", "inspect.not_elf"),
        (b"", "stage.empty"),
    ];
    for (bad, code) in bad {
        let mut harness = Harness::new();
        harness.deploy(&library, "markdown.so", "markdown@1.0.0");
        fs::write(harness.plugin_dir().join("markdown.so"), bad).expect("writes");
        assert_eq!(harness.refused("markdown.so").code, code);
        settle(&mut harness);
        assert!(serves(&harness), "{code}");
        harness.drop_file(How::Overwrite, &library, "markdown.so");
        wait_until("the good file being known", || {
            let status = harness.host.status();
            status.plugin("markdown").is_some_and(|plugin| plugin.versions.iter().all(|v| !v.refused))
        });
        assert!(serves(&harness), "{code}");
        let (events, _home) = harness.shutdown();
        // The one at the end of the host.
        assert_eq!((count(&events, "published"), count(&events, "retired")), (1, 1), "{code}");
    }
}

#[test]
fn a_lower_version_does_not_take_over_when_the_serving_file_is_spoiled() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "old.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "new.so", "markdown@2.0.0");
    fs::write(harness.plugin_dir().join("new.so"), b"not a library").expect("writes");
    assert_eq!(harness.refused("new.so").code, "inspect.not_elf");
    settle(&mut harness);
    let version = harness.plugin("markdown").version().expect("serves");
    assert_eq!(version.version.to_string(), "2.0.0");
    harness.delete("new.so");
    harness.published("markdown@1.0.0");
}

#[test]
fn a_serving_file_that_cannot_be_read_any_more_changes_nothing() {
    let library = artifacts::plugin("markdown-v1");
    let mut harness = Harness::new();
    harness.deploy(&library, "markdown.so", "markdown@1.0.0");
    let path = harness.plugin_dir().join("markdown.so");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("changes");
    if fs::read(&path).is_ok() {
        // Root reads everything: something else that cannot be taken, put in
        // its place at once, for a file that is away for a moment has gone.
        let link = harness.data_dir().join("link");
        std::os::unix::fs::symlink(&library, &link).expect("links");
        fs::rename(&link, &path).expect("renames");
        assert_eq!(harness.refused("markdown.so").code, "stage.not_regular");
    }
    settle(&mut harness);
    assert!(serves(&harness));
}

/// Once, deleting one of two copies of a release retired the plugin, and the
/// other copy was not looked at again.
#[test]
fn of_two_files_with_one_version_either_may_go() {
    let library = artifacts::plugin("markdown-v1");
    for (first, second) in [("a.so", "b.so"), ("b.so", "a.so")] {
        let mut harness = Harness::new();
        harness.deploy(&library, "a.so", "markdown@1.0.0");
        harness.drop_file(How::Rename, &library, "b.so");
        wait_until("the second file being read", || {
            let status = harness.host.status();
            status.plugin("markdown").is_some_and(|plugin| plugin.versions[0].path.ends_with("b.so"))
        });
        harness.delete(first);
        settle(&mut harness);
        assert!(serves(&harness), "{first} is gone");
        harness.delete(second);
        harness.expect("retiring", |event| matches!(event.kind, EventKind::Retired));
        let error = harness.plugin("markdown").call("render", b"x").expect_err("nothing serves");
        assert_eq!(error.code().as_str(), "call.not_active");
    }
}

#[test]
fn renaming_the_only_file_does_not_retire_the_plugin() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "a.so", "markdown@1.0.0");
    let names = ["a.so", "b.so"].map(|name| harness.plugin_dir().join(name));
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        fs::rename(&names[from], &names[to]).expect("renames");
        wait_until("the new name", || {
            let status = harness.host.status();
            let plugin = status.plugin("markdown").expect("is known");
            plugin.versions.first().is_some_and(|version| names[to].ends_with(&version.path))
        });
    }
    settle(&mut harness);
    let (events, _home) = harness.shutdown();
    assert_eq!((count(&events, "published"), count(&events, "retired")), (1, 1));
}

/// A file with markdown 1.0.0 and other bytes.
fn other_bytes(harness: &Harness) -> std::path::PathBuf {
    artifacts::with_other_bytes(&artifacts::plugin("markdown-v1"), harness.data_dir().join("other-bytes"))
}

#[test]
fn the_same_version_with_other_bytes_is_refused_where_the_host_is_told_so() {
    let mut harness = Harness::with(|options| options.same_version(SameVersion::Refuse));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    let before = harness.plugin("markdown").version().expect("serves");
    harness.drop_file(How::Rename, &other_bytes(&harness), "markdown.so");
    let failure = harness.refused("markdown.so");
    assert_eq!((failure.code, failure.blame), ("deploy.same_version", "artifact"));
    assert_eq!(harness.plugin("markdown").version().expect("serves on"), before);
}

#[test]
fn the_same_version_with_other_bytes_otherwise_takes_over_and_is_recorded() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    let before = harness.plugin("markdown").version().expect("serves");
    harness.drop_file(How::Rename, &other_bytes(&harness), "markdown.so");
    harness.expect("recording", |event| {
        matches!(event.kind, EventKind::Superseded { .. }) && event.version == Some(before.to_string())
    });
    harness.published("markdown@1.0.0");
    let after = harness.plugin("markdown").version().expect("serves");
    assert_ne!(after.digest, before.digest);
    harness.expect("unloading", |event| {
        matches!(event.kind, EventKind::Unloaded { .. }) && is(event, "markdown@1.0.0")
    });
}

#[test]
fn of_two_files_with_one_version_and_other_bytes_the_one_that_stays_is_read_again() {
    let library = artifacts::plugin("markdown-v1");
    let mut harness = Harness::new();
    harness.deploy(&library, "a.so", "markdown@1.0.0");
    let first = harness.plugin("markdown").version().expect("serves");
    harness.drop_file(How::Rename, &other_bytes(&harness), "b.so");
    harness.published("markdown@1.0.0");
    harness.delete("b.so");
    harness.published("markdown@1.0.0");
    assert_eq!(harness.plugin("markdown").version().expect("serves"), first);
}
