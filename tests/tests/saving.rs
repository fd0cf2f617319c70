//! Snapshots beside calls: on the interval, whatever one plugin does.

use replug_host::event::EventKind;
use replug_tests::{artifacts, harness::is, hostile, load::unlimited};
use serde_json::json;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(30);

/// Once, the first plugin that could not be saved ended the round for all.
#[test]
fn a_plugin_that_cannot_be_saved_keeps_no_other_from_it() {
    for fault in [json!({ "fail": "no" }), json!({ "panic": "text" }), json!({ "hang": { "ms": 400 } })] {
        let config = hostile::only("1.0.0", json!({ "export": fault }));
        let mut harness = hostile::counting(config, |options| {
            options
                .config("limiter", unlimited())
                .snapshot_interval(INTERVAL)
                .hook_timeout(Duration::from_millis(200))
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
