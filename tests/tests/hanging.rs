//! Hooks that do not return: named, bounded, and in nobody's way.

use replug_host::{PluginState, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    hostile::{self, HOOK_TIMEOUT},
    sessions::{audit, call, deploy, deploy_example, open, table},
};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// hostile 1.0.0 has counted to five, with a plugin beside it.
fn beside_markdown(config: Value) -> Harness {
    let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness
}

/// Calls another plugin a hundred times, and asks for the status as often.
fn look_around(harness: &Harness) {
    let markdown = harness.plugin("markdown");
    for _ in 0..100 {
        markdown.call("render", b"*hi*").expect("serves");
        assert!(harness.host.status().plugin("markdown").is_some_and(|plugin| plugin.active.is_some()));
    }
}

/// Something that hangs until `release` is called, or until the file is there.
fn hang(until_file: &std::path::Path) -> Value {
    json!({ "hang": { "until_file": until_file } })
}

#[test]
fn a_freeze_that_hangs_makes_callers_of_its_plugin_wait_and_nobody_else() {
    let faults = json!({ "freeze": { "hang": {} } });
    let mut harness = beside_markdown(hostile::only("1.0.0", faults));
    hostile::drop_version(&harness, 2);
    wait_until("freeze hanging", || hostile::state(&harness) == PluginState::HandingOver);
    let plugin = harness.plugin("hostile");
    let waiting = thread::spawn(move || plugin.call("add", b"1"));
    look_around(&harness);
    assert_eq!(hostile::state(&harness), PluginState::HandingOver, "it hung all the while");
    let failure = harness.not_deployed("hostile@2.0.0");
    assert_eq!(failure.code, "hook.timeout");
    assert!(failure.message.contains("freeze"), "{failure}");
    let answer = waiting.join().expect("does not panic").expect("was only delayed");
    assert_eq!(answer.text(), Ok("6"));
    hostile::release(&harness);
    harness.gone("hostile@2.0.0");
}

#[test]
fn an_export_that_hangs_delays_no_call_at_all() {
    let faults = json!({ "export": { "hang": {} } });
    let mut harness = beside_markdown(hostile::only("1.0.0", faults));
    hostile::drop_version(&harness, 2);
    harness.expect("the deployment beginning", |event| {
        matches!(event.kind, EventKind::Deploying { .. }) && is(event, "hostile@2.0.0")
    });
    let begun = Instant::now();
    look_around(&harness);
    for _ in 0..100 {
        assert_eq!(hostile::count(&harness), "5");
    }
    assert!(begun.elapsed() < HOOK_TIMEOUT, "calls waited for the hook: {:?}", begun.elapsed());
    let failure = harness.not_deployed("hostile@2.0.0");
    assert_eq!(failure.code, "hook.timeout");
    assert!(failure.message.contains("export"), "{failure}");
    hostile::kept(&harness, "1.0.0");
    hostile::release(&harness);
    harness.gone("hostile@2.0.0");
}

/// Once, a hand-over that had been given up went on when its hook returned: the
/// refused version was activated, and the old one served on, frozen.
#[test]
fn a_hand_over_that_was_given_up_is_undone_when_its_hook_returns() {
    let folder = tempfile::tempdir().expect("a directory");
    let (go_on, end) = (folder.path().join("go-on"), folder.path().join("end"));
    // Each activation and each thaw shows as a thread.
    let thread = json!({ "linger": { "until_file": end } });
    let faults = json!({ "freeze": hang(&go_on), "activate": thread, "thaw": thread });
    let mut harness = hostile::counting(json!({ "faults": faults }), |options| {
        options.hook_timeout(HOOK_TIMEOUT).threads_timeout(Duration::from_millis(50))
    });
    assert_eq!(hostile::threads(&harness), 1);
    let failure = hostile::refused_and_kept(&mut harness, "hook.timeout");
    assert!(failure.message.contains("freeze"), "{failure}");
    fs::write(go_on, b"").expect("writes");
    wait_until("the thaw of 1.0.0", || hostile::threads(&harness) == 2);
    let gone = harness.expect("2.0.0 leaving", |event| {
        matches!(event.kind, EventKind::Unloaded { .. } | EventKind::Resident { .. })
            && is(event, "hostile@2.0.0")
    });
    assert!(matches!(gone.kind, EventKind::Unloaded { .. }), "it was activated: {gone:?}");
    fs::write(end, b"").expect("writes");
    wait_until("the threads having ended", || hostile::threads(&harness) == 0);
}

#[test]
fn a_refused_version_whose_hook_hangs_is_resident_by_that_name_until_it_returns() {
    for hook in ["prepare", "restore", "activate", "self_test"] {
        let folder = tempfile::tempdir().expect("a directory");
        let end = folder.path().join("end");
        let config = hostile::only("2.0.0", json!({ hook: hang(&end) }));
        let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
        let failure = hostile::refused_and_kept(&mut harness, "hook.timeout");
        assert!(failure.message.contains(hook), "{failure}");
        let pins = [format!("its hook {hook} has not returned")];
        wait_until("2.0.0 being named", || {
            let status = harness.host.status();
            status.plugin("hostile").is_some_and(|plugin| plugin.unloading.iter().any(|one| one.pins == pins))
        });
        assert_eq!(harness.host.status().residents, 1, "{hook}");
        fs::write(end, b"").expect("writes");
        harness.unloaded("hostile@2.0.0");
    }
}

/// Once, a hook of a refused version that never returned kept the old version
/// entered, and no hand-over from it could begin any more.
#[test]
fn a_mended_version_takes_over_while_a_hook_of_the_refused_one_still_hangs() {
    for hook in ["prepare", "restore", "activate"] {
        let folder = tempfile::tempdir().expect("a directory");
        let end = folder.path().join("end");
        let config = hostile::only("2.0.0", json!({ hook: hang(&end) }));
        let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
        hostile::refused_and_kept(&mut harness, "hook.timeout");
        hostile::drop_version(&harness, 3);
        harness.published("hostile@3.0.0");
        assert_eq!(hostile::count(&harness), "6", "{hook}");
        harness.unloaded("hostile@1.0.0");
        fs::write(end, b"").expect("writes");
        harness.unloaded("hostile@2.0.0");
    }
}

#[test]
fn a_version_whose_stop_or_drop_hangs_is_resident_by_that_name_until_it_returns() {
    for hook in ["stop", "drop"] {
        let folder = tempfile::tempdir().expect("a directory");
        let end = folder.path().join("end");
        let config = hostile::only("1.0.0", json!({ hook: hang(&end) }));
        let mut harness = beside_markdown(config);
        hostile::drop_version(&harness, 2);
        harness.published("hostile@2.0.0");
        let resident = harness.expect("naming it", |event| {
            matches!(event.kind, EventKind::Resident { .. }) && is(event, "hostile@1.0.0")
        });
        let EventKind::Resident { pins } = &resident.kind else { unreachable!("just matched") };
        assert_eq!(pins, &[format!("its hook {hook} has not returned")]);
        assert_eq!(harness.host.status().residents, 1);
        look_around(&harness);
        hostile::kept(&harness, "2.0.0");
        harness.drop_file(How::Rename, &artifacts::plugin("markdown-v2"), "markdown-2.0.0.so");
        harness.published("markdown@2.0.0");
        fs::write(end, b"").expect("writes");
        harness.unloaded("hostile@1.0.0");
        wait_until("nothing being resident", || harness.host.status().residents == 0);
    }
}

/// A row of `sessions` that steps wait at for as long as a file is there.
struct Stuck {
    row: tempfile::NamedTempFile,
}

impl Stuck {
    fn new() -> Stuck {
        Stuck { row: tempfile::NamedTempFile::new().expect("a file") }
    }

    fn open(&self, sessions: &replug_host::Plugin) {
        open(sessions, "stuck", self.row.path().to_str().expect("text"));
        open(sessions, "sound", "ada");
    }

    fn release(self) {
        self.row.close().expect("is removed");
    }
}

/// How many threads turn rows of what serves into others.
fn converting(harness: &Harness, label: &str) -> usize {
    let status = harness.host.status();
    let leases = &status.plugin("sessions").expect("is known").leases;
    leases.iter().filter(|lease| lease.holder == label).count()
}

/// Once, a deployment waited for such a step for ever.
#[test]
fn a_downgrade_whose_step_hangs_is_given_up_and_what_serves_goes_on() {
    let mut harness = Harness::with(|host| host.hook_timeout(HOOK_TIMEOUT));
    deploy_example(&mut harness, "stuck-step", "2.4.0");
    let (sessions, stuck) = (harness.plugin("sessions"), Stuck::new());
    stuck.open(&sessions);
    harness.drop_file(How::Rename, &artifacts::plugin("sessions-v1"), "sessions-1.0.0.so");
    harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));

    for touched in ["1", "2"] {
        let refused = harness.activate("sessions", "1.0.0").expect_err("a row does not go back");
        assert_eq!(refused.code, "hook.timeout");
        assert!(refused.message.contains(", which serves on: convert"), "{refused}");
        // The second time no thread is given to it.
        assert_eq!(converting(&harness, "descent"), 1);
        assert_eq!(call(&sessions, "touch", "sound"), touched);
    }
    assert_eq!(table(&harness, "sessions").schema, 2);
    harness.unloaded("sessions@1.0.0");

    stuck.release();
    wait_until("the step to return", || converting(&harness, "descent") == 0);
    harness.activate("sessions", "1.0.0").expect("goes back");
    assert_eq!(audit(&sessions), (2, 2, 0));
}

#[test]
fn a_sweep_whose_step_hangs_is_told_and_holds_up_neither_calls_nor_the_end() {
    let mut harness =
        Harness::with(|host| host.hook_timeout(HOOK_TIMEOUT).shutdown_timeout(Duration::from_secs(2)));
    deploy(&mut harness, 1);
    let (sessions, stuck) = (harness.plugin("sessions"), Stuck::new());
    stuck.open(&sessions);
    deploy_example(&mut harness, "stuck-step", "2.4.0");
    harness.expect("the step that hangs", |event| {
        is(event, "sessions@2.4.0")
            && matches!(&event.kind, EventKind::StateProblem { failure }
                if failure.code == "hook.timeout" && failure.message.starts_with("convert"))
    });
    assert_eq!(call(&sessions, "touch", "sound"), "1");
    let refused = harness.activate("sessions", "1.0.0").expect_err("its step hangs");
    assert_eq!(refused.code, "hook.timeout");
    assert_eq!((converting(&harness, "sweep"), converting(&harness, "descent")), (1, 0));

    drop(sessions);
    let begun = Instant::now();
    let (events, _home) = harness.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let told = events.iter().filter(|event| matches!(event.kind, EventKind::StateProblem { .. }));
    assert_eq!(told.count(), 1, "it was told once");
    stuck.release();
}
