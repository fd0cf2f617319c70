//! Files that arrive in every way, and what is done about them.

use replug_host::{RemovalPolicy, artifact::watch::WatchOptions, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is},
};
use std::{collections::BTreeSet, fs, time::Duration};

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

/// Once, a truncated file of the version that served retired the plugin.
#[test]
fn truncating_or_spoiling_the_file_of_a_running_version_has_no_effect_on_it() {
    let library = artifacts::plugin("markdown-v2");
    let half = fs::metadata(&library).expect("is there").len() / 2;
    for with_an_older_version in [false, true] {
        let mut harness = Harness::new();
        if with_an_older_version {
            harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
        }
        harness.deploy(&library, "markdown-2.0.0.so", "markdown@2.0.0");
        let path = harness.plugin_dir().join("markdown-2.0.0.so");
        for (length, code) in [(half, "inspect.truncated"), (0, "stage.empty")] {
            let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
            file.set_len(length).expect("truncates");
            drop(file);
            assert_eq!(harness.refused("markdown-2.0.0.so").code, code);
        }
        fs::write(&path, b"no library at all").expect("writes");
        assert_eq!(harness.refused("markdown-2.0.0.so").code, "inspect.not_elf");
        // A later file is dealt with after all of that.
        fs::write(harness.plugin_dir().join("later.so"), b"junk").expect("writes");
        harness.refused("later.so");
        let markdown = harness.plugin("markdown");
        assert_eq!(markdown.version().expect("serves").version.to_string(), "2.0.0");
        markdown.call("render", b"*hi*").expect("serves");
        harness.delete("markdown-2.0.0.so");
        if with_an_older_version {
            harness.published("markdown@1.0.0");
        } else {
            harness.expect("retiring", |event| matches!(event.kind, EventKind::Retired));
        }
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

/// Options under which no scan but those that a fault leads to finds anything.
fn events_only() -> WatchOptions {
    let never = Duration::from_secs(3600);
    WatchOptions { rescan_interval: never, check_interval: never, ..WatchOptions::default() }
}

#[test]
fn files_whose_events_are_lost_to_an_overflow_are_found_all_the_same() {
    let mut harness =
        Harness::with(|options| options.watch(WatchOptions { event_queue: 1, ..events_only() }));
    let library = artifacts::plugin("markdown-v1");
    for number in 0..500 {
        fs::write(harness.plugin_dir().join(format!("junk{number}.so")), b"junk").expect("writes");
    }
    harness.drop_file(How::Copy, &library, "markdown.so");
    let mut refused = BTreeSet::new();
    let mut served = false;
    harness.expect("finding them all", |event| {
        if let EventKind::Refused { path, .. } = &event.kind {
            refused.insert(path.clone());
        }
        served |= matches!(event.kind, EventKind::Published { .. });
        served && refused.len() == 500
    });
}

#[test]
fn a_directory_that_is_deleted_and_made_again_is_watched_again() {
    let rearm = WatchOptions { check_interval: Duration::from_millis(20), ..events_only() };
    let mut harness = Harness::with(|options| options.watch(rearm).removal(RemovalPolicy::Keep));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    for (library, version) in [("markdown-v2", "markdown@2.0.0"), ("threads-v1", "threads@1.0.0")] {
        fs::remove_dir_all(harness.plugin_dir()).expect("removes");
        harness.expect(
            "noticing that it is away",
            |event| matches!(&event.kind, EventKind::Watching { mode, .. } if mode.starts_with("absent")),
        );
        assert!(harness.host.status().watching.starts_with("absent"));
        harness.plugin("markdown").call("render", b"*hi*").expect("serves on");
        fs::create_dir(harness.plugin_dir()).expect("creates");
        harness.expect(
            "watching it again",
            |event| matches!(&event.kind, EventKind::Watching { mode, .. } if mode == "events"),
        );
        harness.deploy(&artifacts::plugin(library), "again.so", version);
    }
}

#[test]
fn a_directory_that_is_replaced_between_two_looks_is_watched_again() {
    let rearm = WatchOptions { check_interval: Duration::from_millis(20), ..events_only() };
    let mut harness = Harness::with(|options| options.watch(rearm));
    let dir = harness.plugin_dir();
    let next = dir.with_file_name("next");
    fs::create_dir(&next).expect("creates");
    fs::copy(artifacts::plugin("markdown-v1"), next.join("markdown.so")).expect("copies");
    fs::rename(&dir, dir.with_file_name("before")).expect("renames");
    fs::rename(&next, &dir).expect("renames");
    harness.published("markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
}

#[test]
fn where_there_are_no_events_files_are_found_by_polling() {
    let poll_interval = Duration::from_millis(50);
    let polling = WatchOptions { force_polling: true, poll_interval, ..events_only() };
    let mut harness = Harness::with(|options| options.watch(polling));
    assert!(harness.host.status().watching.starts_with("polling every 50 ms"));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.drop_file(How::Copy, &artifacts::plugin("markdown-v2"), "markdown-2.0.0.so");
    harness.published("markdown@2.0.0");
    harness.delete("markdown-2.0.0.so");
    harness.published("markdown@1.0.0");
}
