//! State that is handed over by plugins of each version of their interface.

use replug_host::event::{EventKind, StageTimes};
use replug_tests::{
    artifacts,
    harness::{Harness, is},
    hostile::{self, Build},
};
use serde_json::json;

/// Makes all steps at once.
const NEW: Build = artifacts::hostile;

/// From before that: has its steps made one by one.
const OLD: Build = artifacts::hostile_of_instance_1_0;

/// What the stages took when `version` was published.
fn stages_of(harness: &mut Harness, version: &str) -> StageTimes {
    let mut stages = StageTimes::default();
    harness.expect("it to serve", |event| match &event.kind {
        EventKind::Published { stages: seen, .. } => {
            stages = *seen;
            is(event, version)
        }
        _ => false,
    });
    stages
}

#[test]
fn state_goes_up_and_down_between_plugins_of_every_version_of_their_interface() {
    for (first, second) in [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW)] {
        // Large enough that a step takes a time that can be told.
        let config = json!({ "state": { "ballast_bytes": 1_000_000 } });
        let mut harness = hostile::counting_as_built(first, config, |options| options);
        hostile::drop_built(&harness, second, 2);
        let up = stages_of(&mut harness, "hostile@2.0.0");
        assert_eq!(hostile::count(&harness), "5");
        harness.activate("hostile", "1.0.0").expect("goes back");
        let down = stages_of(&mut harness, "hostile@1.0.0");
        hostile::kept(&harness, "1.0.0");
        // The one with the later schema makes the steps, in either direction.
        let is_apart = std::ptr::fn_addr_eq(second, OLD);
        assert_eq!((up.migrate_us > 0, down.migrate_us > 0), (is_apart, is_apart), "{up:?} {down:?}");
    }
}

#[test]
fn several_steps_are_made_one_by_one_for_a_plugin_of_the_first_interface() {
    let mut harness = hostile::counting_as_built(OLD, json!({}), |options| options);
    hostile::drop_built(&harness, OLD, 3);
    harness.published("hostile@3.0.0");
    hostile::kept(&harness, "3.0.0");
}
