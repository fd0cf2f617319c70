//! State that is handed over by plugins of each version of their interface, and
//! what goes wrong in it with callers waiting though it went well when it was tried.

use replug_host::event::{EventKind, StageTimes};
use replug_tests::{
    artifacts,
    harness::{Harness, is, wait_until},
    hostile::{self, Build, HOOK_TIMEOUT, Trace},
};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

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

/// Calls all the while: whoever calls may have to wait, and nothing else.
struct Caller {
    done: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Caller {
    fn of(harness: &Harness) -> Caller {
        let (plugin, done) = (harness.plugin("hostile"), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&done);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Acquire) {
                let count = plugin.call("count", b"").expect("waits, and is served");
                assert_eq!(count.text(), Ok("5"));
                // sleep: so that callers leave the cores to the host.
                thread::sleep(Duration::from_micros(100));
            }
        });
        Caller { done, thread }
    }

    fn stop(self) {
        self.done.store(true, Ordering::Release);
        self.thread.join().expect("no call failed, nor saw another count");
    }
}

/// Faults that come from the second time on, and the code of each; what hangs does so
/// until [`let_end`].
fn faults(trace: &Trace) -> [(Value, &'static str); 3] {
    let file = trace.folder.path().join("times");
    let later = |fault: Value| json!({ "later": { "file": file, "fault": fault } });
    [
        (later(json!({ "fail": "not this time" })), "state.migrate"),
        (later(json!({ "panic": "text" })), "hook.panicked"),
        (
            later(json!({ "hang": { "until_file": trace.folder.path().join("end"), "ms": 60_000 } })),
            "hook.timeout",
        ),
    ]
}

fn let_end(trace: &Trace) {
    fs::write(trace.folder.path().join("end"), b"").expect("writes");
}

fn config(trace: &Trace, version: &str, state: &Value) -> Value {
    json!({ "only_version": version, "state": state, "trace": trace.path() })
}

fn was_frozen_and_thaws(trace: &Trace, version: &str) {
    assert!(trace.has(&format!("{version} Freeze")), "the gate was never closed");
    wait_until("the thaw", || trace.has(&format!("{version} Thaw")));
}

#[test]
fn a_step_up_that_fails_panics_or_hangs_behind_the_gate_is_a_pause_and_nothing_else() {
    for build in [OLD, NEW] {
        for at in 0..3 {
            let trace = Trace::new();
            let (fault, code) = faults(&trace)[at].clone();
            let config = config(&trace, "1.0.0", &json!({ "up": fault }));
            let mut harness =
                hostile::counting_as_built(build, config, |options| options.hook_timeout(HOOK_TIMEOUT));
            let caller = Caller::of(&harness);
            hostile::drop_built(&harness, build, 2);
            let failure = harness.not_deployed("hostile@2.0.0");
            assert_eq!(failure.code, code, "{failure}");
            was_frozen_and_thaws(&trace, "1.0.0");
            caller.stop();
            hostile::kept(&harness, "1.0.0");
            let_end(&trace);
            harness.gone("hostile@2.0.0");
        }
    }
}

/// hostile 2.0.0 has come after 1.0.0, and what is wrong with its state shows on
/// the way back.
fn back_is_refused(build: Build, trace: &Trace, state: &Value, code: &str) {
    let mut harness = hostile::counting_as_built(build, config(trace, "2.0.0", state), |options| {
        options.hook_timeout(HOOK_TIMEOUT).state_bytes_max(50_000)
    });
    hostile::drop_built(&harness, build, 2);
    harness.published("hostile@2.0.0");
    let caller = Caller::of(&harness);
    let failure = harness.activate("hostile", "1.0.0").expect_err("cannot go back");
    assert_eq!(failure.code, code, "{failure}");
    let_end(trace);
    was_frozen_and_thaws(trace, "2.0.0");
    caller.stop();
    hostile::kept(&harness, "2.0.0");
}

#[test]
fn a_step_down_that_fails_panics_or_hangs_behind_the_gate_is_a_pause_and_nothing_else() {
    for build in [OLD, NEW] {
        for at in 0..3 {
            let trace = Trace::new();
            let (fault, code) = faults(&trace)[at].clone();
            back_is_refused(build, &trace, &json!({ "down": fault }), code);
        }
    }
}

#[test]
fn state_that_swells_behind_the_gate_on_its_way_down_is_a_pause_and_nothing_else() {
    for build in [OLD, NEW] {
        let trace = Trace::new();
        let swells = json!({ "file": trace.folder.path().join("times"), "bytes": 100_000 });
        back_is_refused(build, &trace, &json!({ "swells": swells }), "state.too_large");
    }
}
