//! Snapshots beside calls: on the interval, whatever one plugin does.

use replug_host::{HostBuilder, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    hostile::{self, HOOK_TIMEOUT},
    load::unlimited,
};
use serde_json::json;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(30);

/// Once, the first plugin that could not be saved ended the round for all.
#[test]
fn a_plugin_that_cannot_be_saved_keeps_no_other_from_it() {
    for fault in [json!({ "fail": "no" }), json!({ "panic": "text" }), json!({ "hang": { "ms": 4000 } })] {
        let config = hostile::only("1.0.0", json!({ "export": fault }));
        let mut harness = hostile::counting(config, |options| {
            options.config("limiter", unlimited()).snapshot_interval(INTERVAL).hook_timeout(HOOK_TIMEOUT)
        });
        harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
        // In both orders of the two: after a problem and before the next.
        for _ in 0..2 {
            harness.expect("the problem being told", |event| {
                matches!(event.kind, EventKind::StateProblem { .. }) && is(event, "hostile@1.0.0")
            });
            harness.expect("the other being saved", |event| {
                matches!(event.kind, EventKind::StateSaved { .. }) && is(event, "limiter@1.0.0")
            });
        }
        hostile::kept(&harness, "1.0.0");
    }
}

/// Once, each interval wrote another file of the same, and what somebody wanted to
/// go back to was pushed out.
#[test]
fn state_that_does_not_change_is_saved_once_and_pushes_nothing_out() {
    let options = |host: HostBuilder| host.config("limiter", unlimited()).snapshots_kept(2);
    let mut harness = Harness::with(|host| options(host).snapshot_interval(INTERVAL));
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    let take = |harness: &Harness| drop(harness.plugin("limiter").call("take", br#"{"key":"ada"}"#));
    let saved = |harness: &mut Harness, wanted: bool| {
        let mut number = 0;
        harness.expect("a snapshot", |event| match event.kind {
            EventKind::StateSaved { snapshot, is_new, .. } => {
                number = snapshot;
                is_new == wanted
            }
            _ => false,
        });
        number
    };
    let first = saved(&mut harness, true);
    take(&harness);
    let second = saved(&mut harness, true);
    for _ in 0..5 {
        assert_eq!(saved(&mut harness, false), second);
    }
    let listed = |harness: &Harness| -> Vec<u64> {
        let limiter = "limiter".parse().expect("a name");
        let all = harness.host.snapshots().list(Some(&limiter)).expect("can be read");
        all.iter().map(|snapshot| snapshot.sequence).collect()
    };
    assert_eq!(listed(&harness), [second, first]);
    // The end saves too, and so does the next start.
    let home = harness.shutdown().1;
    let mut harness = Harness::again(home, |host| options(host).snapshot_interval(INTERVAL));
    harness.published("limiter@1.0.0");
    assert_eq!(saved(&mut harness, false), second);
    assert_eq!(listed(&harness), [second, first]);
}

/// Once, two of three versions of a sample plugin gave what they keep in a hash map
/// in its order, which is another one in each instance.
#[test]
fn state_that_a_hash_map_keeps_is_the_same_after_a_start() {
    let mut harness = Harness::with(|host| host.config("limiter", unlimited()));
    harness.deploy(&artifacts::plugin("limiter-v3"), "limiter-3.0.0.so", "limiter@3.0.0");
    for key in 0..100 {
        harness.plugin("limiter").call("take", format!(r#"{{"key":"{key}"}}"#).as_bytes()).expect("takes");
    }
    let saved = |harness: &mut Harness| {
        harness.host.save_state().wait().expect("saves");
        let saved =
            harness.expect("the snapshot", |event| matches!(event.kind, EventKind::StateSaved { .. }));
        let EventKind::StateSaved { snapshot, is_new, .. } = saved.kind else { unreachable!("just matched") };
        (snapshot, is_new)
    };
    let (number, is_new) = saved(&mut harness);
    assert!(is_new);
    assert_eq!(saved(&mut harness), (number, false));
    let home = harness.shutdown().1;
    let mut harness = Harness::again(home, |host| host.config("limiter", unlimited()));
    harness.published("limiter@3.0.0");
    assert_eq!(saved(&mut harness), (number, false));
}
