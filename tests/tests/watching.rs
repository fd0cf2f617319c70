//! Files that arrive in every way, and what is done about them.

use replug_host::{RemovalPolicy, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is},
};
use std::fs;

#[test]
fn a_file_is_taken_however_it_arrives() {
    let library = artifacts::plugin("markdown-v1");
    for how in [How::Copy, How::Rename, How::HardLink, How::Halves] {
        let mut harness = Harness::new();
        harness.drop_file(how, &library, "markdown.so");
        harness.published("markdown@1.0.0");
        let html = harness.plugin("markdown").call("render", b"*hi*").expect("serves");
        assert_eq!(html.text(), Ok("<p><em>hi</em></p>\n"), "{how:?}");
        harness.shutdown();
    }
}

#[test]
fn files_that_are_there_at_the_start_are_taken() {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join("plugins")).expect("creates");
    fs::copy(artifacts::plugin("markdown-v1"), home.path().join("plugins/markdown.so")).expect("copies");
    let mut harness = Harness::again(home, |options| options);
    harness.published("markdown@1.0.0");
}

#[test]
fn a_file_truncated_mid_copy_is_not_loaded_and_is_retried_when_it_changes() {
    let library = artifacts::plugin("markdown-v1");
    let bytes = fs::read(&library).expect("reads");
    let mut harness = Harness::new();
    fs::write(harness.plugin_dir().join("markdown.so"), &bytes[..bytes.len() / 2]).expect("writes");
    assert_eq!(harness.refused("markdown.so").code, "inspect.truncated");
    harness.drop_file(How::Overwrite, &library, "markdown.so");
    harness.published("markdown@1.0.0");
}

#[test]
fn overwriting_or_renaming_over_a_loaded_file_is_a_new_candidate() {
    let (first, second) = (artifacts::plugin("markdown-v1"), artifacts::plugin("markdown-v2"));
    for how in [How::Overwrite, How::Rename] {
        let mut harness = Harness::new();
        harness.deploy(&first, "markdown.so", "markdown@1.0.0");
        harness.drop_file(how, &second, "markdown.so");
        harness.published("markdown@2.0.0");
        let version = harness.plugin("markdown").version().expect("serves");
        assert_eq!(version.version.to_string(), "2.0.0", "{how:?}");
    }
}

#[test]
fn deleting_the_wanted_file_falls_back_and_then_retires() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.delete("markdown-2.0.0.so");
    harness.published("markdown@1.0.0");
    harness.delete("markdown-1.0.0.so");
    harness.expect("retiring", |event| matches!(event.kind, EventKind::Retired));
    let error = harness.plugin("markdown").call("render", b"x").expect_err("nothing serves");
    assert_eq!(replug_host::failure::Failure::code(&error).as_str(), "call.not_active");
}

#[test]
fn deleting_the_file_has_no_effect_where_the_policy_keeps_the_version() {
    let mut harness = Harness::with(|options| options.removal(RemovalPolicy::Keep));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.delete("markdown-2.0.0.so");
    harness.expect("noticing", |event| matches!(event.kind, EventKind::Gone { .. }));
    let version = harness.plugin("markdown").version().expect("serves");
    assert_eq!(version.version.to_string(), "2.0.0");
}

#[test]
fn of_two_versions_at_once_the_highest_serves_and_the_other_is_recorded() {
    let home = tempfile::tempdir().expect("a directory");
    let plugins = home.path().join("plugins");
    fs::create_dir(&plugins).expect("creates");
    fs::copy(artifacts::plugin("markdown-v2"), plugins.join("a.so")).expect("copies");
    fs::copy(artifacts::plugin("markdown-v1"), plugins.join("b.so")).expect("copies");
    let mut harness = Harness::again(home, |options| options);
    harness.expect("recording", |event| {
        matches!(event.kind, EventKind::Superseded { .. }) && is(event, "markdown@1.0.0")
    });
    let (events, _home) = harness.shutdown();
    let published: Vec<_> =
        events.iter().filter(|event| matches!(event.kind, EventKind::Published { .. })).collect();
    assert_eq!(published.len(), 1);
    assert!(is(published[0], "markdown@2.0.0"));
}

#[test]
fn a_thousand_files_at_once_are_all_read_and_the_good_one_serves() {
    let mut harness = Harness::new();
    for number in 0..1000 {
        fs::write(harness.plugin_dir().join(format!("junk{number}.so")), b"junk").expect("writes");
    }
    harness.drop_file(How::Copy, &artifacts::plugin("markdown-v1"), "markdown.so");
    let mut refused = 0;
    let mut served = false;
    harness.expect("reading them all", |event| {
        refused += u32::from(matches!(event.kind, EventKind::Refused { .. }));
        served |= matches!(event.kind, EventKind::Published { .. });
        served && refused == 1000
    });
}
