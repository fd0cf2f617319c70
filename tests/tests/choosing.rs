//! Choices of operators, and versions that are tried again: a failure takes
//! nothing away that was there before.

use replug_host::{PluginStatus, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
};
use serde_json::json;
use std::{thread, time::Duration};

fn status(harness: &Harness, plugin: &str) -> PluginStatus {
    harness.host.status().plugin(plugin).expect("is known").clone()
}

/// Once, a failed choice pinned the version that served before it, and nothing
/// newer was deployed from then on.
#[test]
fn a_choice_that_fails_leaves_the_choice_before() {
    let config = json!({ "only_version": "2.0.0", "faults": { "activate": { "fail": "no" } } });
    let mut harness = Harness::with(|options| options.config("hostile", config));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    harness.not_deployed("hostile@2.0.0");

    assert_eq!(harness.activate("hostile", "2.0.0").expect_err("it fails").code, "hook.failed");
    assert_eq!(status(&harness, "hostile").pinned, None);

    harness.activate("hostile", "1.0.0").expect("serves already");
    assert_eq!(harness.activate("hostile", "2.0.0").expect_err("it fails").code, "hook.failed");
    let status = status(&harness, "hostile");
    assert_eq!(status.pinned.as_deref(), Some("1.0.0"));
    assert!(status.active.is_some_and(|id| id.starts_with("hostile@1.0.0")));
}

/// Once, one slow call at the moment of a hand-over refused the new version for
/// good.
#[test]
fn a_version_that_could_not_be_handed_over_to_is_tried_again_by_itself() {
    let mut harness = Harness::with(|options| options.quiesce_timeout(Duration::from_millis(50)));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    let slow = hostile.clone();
    let running = thread::spawn(move || slow.call("slow", b""));
    wait_until("the call being in flight", || status(&harness, "hostile").in_flight > 0);
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    let event = harness.expect("refusing 2.0.0", |event| {
        matches!(event.kind, EventKind::DeployFailed { .. }) && is(event, "hostile@2.0.0")
    });
    assert!(
        matches!(&event.kind, EventKind::DeployFailed { failure, retry_in_ms: Some(1000), .. }
            if failure.code == "gate.quiesce_timeout"),
        "{event:?}"
    );
    let versions = status(&harness, "hostile").versions;
    let waiting = versions.iter().find(|version| version.id.starts_with("hostile@2.0.0")).expect("is listed");
    assert!(!waiting.refused);
    // Asked for, it is tried at once.
    assert_eq!(harness.activate("hostile", "2.0.0").expect_err("is busy").code, "gate.quiesce_timeout");

    hostile.call("release", b"").expect("releases");
    running.join().expect("does not panic").expect("is answered by its version");
    harness.published("hostile@2.0.0");
}

#[test]
fn a_version_that_fails_by_itself_is_not_tried_again() {
    let config = json!({ "only_version": "2.0.0", "faults": { "activate": { "fail": "no" } } });
    let mut harness = Harness::with(|options| options.config("hostile", config));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    let event =
        harness.expect("refusing 2.0.0", |event| matches!(event.kind, EventKind::DeployFailed { .. }));
    assert!(matches!(event.kind, EventKind::DeployFailed { retry_in_ms: None, .. }), "{event:?}");
    let versions = status(&harness, "hostile").versions;
    let refused = versions.iter().find(|version| version.id.starts_with("hostile@2.0.0")).expect("is listed");
    assert!(refused.refused && refused.retry_in_ms.is_none());
}

#[test]
fn looking_at_a_plugin_does_not_count_as_calling_it() {
    let mut harness = Harness::with(|options| options.stuck_after(Duration::from_millis(3)));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    let markdown = harness.plugin("markdown");
    markdown.call("render", b"x").expect("renders");
    for _ in 0..100 {
        let status = status(&harness, "markdown");
        assert_eq!(status.calls, 1);
        assert!(status.heap_bytes.is_some());
        markdown.version().expect("serves");
    }
    assert_eq!(harness.host.status().barrier, replug_host::dispatch::barrier::kind().as_str());
}
