//! Hooks and calls that go wrong: what served before serves on.

use replug_host::{CallError, failure::Failure};
use replug_tests::{
    harness::Harness,
    hostile::{self, HOOK_TIMEOUT},
};
use serde_json::{Value, json};

/// A host on which hostile 1.0.0 has counted to five, and 2.0.0 has `faults`.
fn counting(faults: Value) -> Harness {
    started(hostile::only("2.0.0", faults))
}

fn started(config: Value) -> Harness {
    hostile::counting(config, |options| options)
}

#[test]
fn a_hook_that_panics_leaves_the_old_version_serving() {
    for hook in ["prepare", "restore", "activate", "self_test"] {
        for panic in ["text", "value", "bomb"] {
            let faults = json!({ hook: { "panic": panic } });
            hostile::refused_and_kept(&mut counting(faults), "hook.panicked");
        }
    }
}

#[test]
fn a_hook_that_fails_leaves_the_old_version_serving() {
    for (hook, code) in [
        ("prepare", "prepare.failed"),
        ("restore", "hook.failed"),
        ("activate", "hook.failed"),
        ("self_test", "self_test.failed"),
    ] {
        hostile::refused_and_kept(&mut counting(json!({ hook: { "fail": "no" } })), code);
    }
}

#[test]
fn a_hook_that_hangs_leaves_the_old_version_serving() {
    for hook in ["prepare", "restore", "activate"] {
        let config = hostile::only("2.0.0", json!({ hook: { "hang": { "ms": 4000 } } }));
        let mut harness = hostile::counting(config, |options| options.hook_timeout(HOOK_TIMEOUT));
        hostile::refused_and_kept(&mut harness, "hook.timeout");
    }
}

#[test]
fn an_old_version_that_cannot_give_its_state_serves_on() {
    for (fault, code) in [
        (json!({ "export": { "panic": "text" } }), "hook.panicked"),
        (json!({ "export": { "fail": "no" } }), "hook.failed"),
        (json!({ "freeze": { "fail": "no" } }), "hook.failed"),
        (json!({ "freeze": { "panic": "bomb" } }), "hook.panicked"),
    ] {
        hostile::refused_and_kept(&mut started(hostile::only("1.0.0", fault)), code);
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_the_operators_to_mend() {
    let mut harness = Harness::with(|options| options.config("hostile", json!({ "count": "many" })));
    hostile::drop_version(&harness, 1);
    let failure = harness.not_deployed("hostile@1.0.0");
    assert_eq!((failure.code, failure.blame), ("config.invalid", "operator"));
}

/// Its threads never saw their signal, and the version stayed for ever.
#[test]
fn a_version_that_panics_in_stop_still_ends_its_threads_and_leaves() {
    let config =
        json!({ "only_version": "1.0.0", "thread": true, "faults": { "stop": { "panic": "text" } } });
    let mut harness = started(config);
    hostile::drop_version(&harness, 2);
    harness.published("hostile@2.0.0");
    harness.unloaded("hostile@1.0.0");
}

/// There is no instance to stop then: the threads went on, and with them every
/// version that was refused in this way stayed.
#[test]
fn a_version_that_spawns_and_then_fails_to_prepare_leaves() {
    for fault in [json!({ "fail": "no database" }), json!({ "panic": "text" })] {
        let config = json!({ "only_version": "2.0.0", "thread": true, "faults": { "prepare": fault } });
        let mut harness = started(config);
        hostile::drop_version(&harness, 2);
        harness.not_deployed("hostile@2.0.0");
        harness.gone("hostile@2.0.0");
    }
}

#[test]
fn a_call_that_panics_is_an_error_with_the_plugins_name_and_is_counted() {
    let harness = counting(json!({}));
    let hostile = harness.plugin("hostile");
    for panic in ["text", "value", "bomb"] {
        let error =
            hostile.call("fault", json!({ "panic": panic }).to_string().as_bytes()).expect_err("it panics");
        assert!(
            matches!(&error, CallError::Panicked { plugin, .. } if plugin.as_str() == "hostile"),
            "{error}"
        );
        assert_eq!(error.code().as_str(), "call.panicked");
    }
    assert_eq!(hostile.call("count", b"").expect("lives").text(), Ok("5"));
    assert_eq!(hostile.counters().errors, 3);
}

#[test]
fn a_version_whose_stop_or_drop_panics_is_unloaded_all_the_same() {
    for hook in ["stop", "drop"] {
        let mut harness = started(hostile::only("1.0.0", json!({ hook: { "panic": "text" } })));
        hostile::drop_version(&harness, 2);
        harness.unloaded("hostile@1.0.0");
    }
}
