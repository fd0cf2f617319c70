//! State that cannot go where it should: refused, or lost as declared.

use replug_host::event::{EventKind, StageTimes};
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    hostile::{self, HOOK_TIMEOUT, Trace},
    load::unlimited,
};
use serde_json::json;

/// Hostile in versions 1, 2 and 3, one after the other; 3.0.0 serves, and its
/// schema has no step down.
fn at_the_one_way_version(allow_state_loss: bool) -> Harness {
    let mut harness = hostile::counting(json!({}), |options| options.allow_state_loss(allow_state_loss));
    for major in [2, 3] {
        hostile::drop_version(&harness, major);
        harness.published(&format!("hostile@{major}.0.0"));
    }
    harness
}

#[test]
fn a_step_up_that_fails_panics_or_hangs_leaves_the_old_version_and_its_state() {
    for (fault, code) in [
        (json!({ "fail": "no way up" }), "state.migrate"),
        (json!({ "panic": "text" }), "hook.panicked"),
        (json!({ "panic": "bomb" }), "hook.panicked"),
        (json!({ "hang": { "ms": 4000 } }), "hook.timeout"),
    ] {
        let config = hostile::state_of("1.0.0", json!({ "up": fault }));
        let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
        let failure = hostile::refused_and_kept(&mut harness, code);
        assert!(failure.message.contains("migrate"), "{failure}");
        harness.gone("hostile@2.0.0");
    }
}

#[test]
fn a_step_down_that_fails_panics_or_hangs_leaves_the_newer_version_and_its_state() {
    for (fault, code) in [
        (json!({ "fail": "no way down" }), "state.migrate"),
        (json!({ "panic": "text" }), "hook.panicked"),
        (json!({ "hang": { "ms": 4000 } }), "hook.timeout"),
    ] {
        let config = hostile::state_of("2.0.0", json!({ "down": fault }));
        let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
        hostile::drop_version(&harness, 2);
        harness.published("hostile@2.0.0");
        let failure = harness.activate("hostile", "1.0.0").expect_err("cannot go back");
        assert_eq!(failure.code, code, "{failure}");
        hostile::kept(&harness, "2.0.0");
    }
}

#[test]
fn state_of_another_shape_than_declared_is_refused() {
    let config = hostile::state_of("1.0.0", json!({ "spoiled": true }));
    let mut harness = hostile::counting(config, |options| options);
    let failure = hostile::refused_and_kept(&mut harness, "state.migrate");
    assert!(failure.message.contains("expected integer"), "{failure}");
}

/// Once, the steps were tried one by one, over bytes, and what could not go that
/// way was refused although no hand-over goes it.
#[test]
fn the_way_that_is_tried_is_the_one_that_is_gone_with_callers_waiting() {
    let config = hostile::state_of("1.0.0", json!({ "spoiled_in": 2 }));
    let mut harness = hostile::counting(config, |options| options);
    hostile::drop_version(&harness, 3);
    harness.published("hostile@3.0.0");
    hostile::kept(&harness, "3.0.0");
}

/// Once, it served, and saved what the next start could not read.
#[test]
fn state_that_could_not_be_read_again_is_refused_before_the_gate_closes() {
    let trace = Trace::new();
    let config = json!({
        "only_version": "1.0.0",
        "state": { "spoiled_in": 2 },
        "trace": trace.path(),
    });
    let mut harness = hostile::counting(config, |options| options);
    let failure = hostile::refused_and_kept(&mut harness, "hook.failed");
    for part in ["restore", "expected integer"] {
        assert!(failure.message.contains(part), "{part} in {failure}");
    }
    assert!(!trace.has("1.0.0 Freeze"), "callers waited for what could not work");
}

#[test]
fn state_above_the_limit_is_refused_with_the_limit() {
    let config = hostile::state_of("1.0.0", json!({ "ballast_bytes": 100_000 }));
    let mut harness = hostile::counting(config, |options| options.state_bytes_max(50_000));
    hostile::refused_and_kept(&mut harness, "state.too_large");
}

#[test]
fn versions_in_between_may_be_left_out() {
    let mut harness = hostile::counting(json!({}), |options| options);
    hostile::drop_version(&harness, 3);
    harness.published("hostile@3.0.0");
    hostile::kept(&harness, "3.0.0");
}

/// Once, what was between two steps was written out and read again with callers
/// waiting.
#[test]
fn steps_are_part_of_export_and_restore_and_the_pause_says_what_it_is_made_of() {
    let mut harness = Harness::with(|host| host.config("limiter", unlimited()));
    for major in 1..=3 {
        let library = artifacts::plugin(&format!("limiter-v{major}"));
        harness.deploy(&library, &format!("limiter-{major}.0.0.so"), &format!("limiter@{major}.0.0"));
    }
    let limiter = harness.plugin("limiter");
    for bucket in 0..5_000 {
        limiter.call("take", format!(r#"{{"key":"tenant/{bucket}"}}"#).as_bytes()).expect("takes");
    }
    for version in ["1.0.0", "3.0.0"] {
        harness.activate("limiter", version).expect("activates");
        let mut stages = StageTimes::default();
        harness.expect("it to serve", |event| match &event.kind {
            EventKind::Published { stages: seen, .. } => {
                stages = *seen;
                is(event, &format!("limiter@{version}"))
            }
            _ => false,
        });
        let StageTimes { quiesce_us, export_us, migrate_us, restore_us, pause_us, .. } = stages;
        assert!(export_us > 0 && restore_us > 0 && migrate_us == 0, "{stages:?}");
        assert!(quiesce_us + export_us + migrate_us + restore_us <= pause_us, "{stages:?}");
        let total = limiter.call("total", b"").expect("counts");
        assert_eq!(total.text(), Ok("5000"));
    }
}

#[test]
fn a_way_back_without_a_step_down_is_refused_and_loses_nothing() {
    let mut harness = at_the_one_way_version(false);
    let failure = harness.activate("hostile", "2.0.0").expect_err("there is no step down");
    assert_eq!(failure.code, "state.no_path");
    for part in ["3 to 2", "would lose"] {
        assert!(failure.message.contains(part), "{part} in {failure}");
    }
    harness.not_deployed("hostile@2.0.0");
    hostile::kept(&harness, "3.0.0");
}

/// Once, a choice that was refused pinned what served, and the next version
/// that was dropped did not take over.
#[test]
fn a_refused_choice_is_not_kept_and_leaves_no_other() {
    let harness = at_the_one_way_version(false);
    harness.activate("hostile", "2.0.0").expect_err("there is no step down");
    assert_eq!(harness.host.status().plugin("hostile").expect("known").pinned, None);
}

#[test]
fn a_way_back_without_a_step_down_takes_the_older_snapshot_where_loss_is_allowed() {
    let mut harness = at_the_one_way_version(true);
    harness.plugin("hostile").call("add", b"100").expect("adds");
    harness.activate("hostile", "2.0.0").expect("may lose");
    let event = harness.expect("saying what is lost", |event| {
        matches!(event.kind, EventKind::StateHandedOver { from_schema: 3, .. }) && is(event, "hostile@2.0.0")
    });
    let EventKind::StateHandedOver { to_schema, loss, .. } = &event.kind else {
        unreachable!("just matched")
    };
    assert_eq!(*to_schema, 2);
    assert!(loss.contains("all that was written since"), "{loss}");
    hostile::kept(&harness, "2.0.0");
}

#[test]
fn a_way_back_without_step_or_older_snapshot_is_refused_even_where_loss_is_allowed() {
    let mut harness = Harness::with(|options| options.allow_state_loss(true));
    hostile::drop_version(&harness, 3);
    harness.published("hostile@3.0.0");
    harness.plugin("hostile").call("add", b"5").expect("adds");
    hostile::drop_version(&harness, 1);
    harness.expect("recording", |event| matches!(event.kind, EventKind::Superseded { .. }));
    let failure = harness.activate("hostile", "1.0.0").expect_err("nothing leads there");
    assert_eq!(failure.code, "state.no_path");
    assert!(failure.message.contains("no older snapshot"), "{failure}");
    hostile::kept(&harness, "3.0.0");
}
