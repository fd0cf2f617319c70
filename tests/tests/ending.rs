//! State that is saved, and the end of a plugin's or a host's service.

use replug_host::{Host, HostError, event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    hostile::HOOK_TIMEOUT,
};
use serde_json::{Value, json};
use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A host on which hostile 1.0.0 counts to five.
fn counting(config: Value, hook_timeout: Duration, shutdown_timeout: Duration) -> Harness {
    let mut harness = Harness::with(|options| {
        let options = options.config("hostile", config);
        options.hook_timeout(hook_timeout).shutdown_timeout(shutdown_timeout)
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    for _ in 0..5 {
        harness.plugin("hostile").call("add", b"1").expect("adds");
    }
    harness
}

/// A file that ends what hangs when it is made.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Self {
        Gate(tempfile::tempdir().expect("a directory"))
    }

    /// Hangs until it opens; a test that fails before that ends all the same.
    fn hang(&self) -> Value {
        json!({ "until_file": self.0.path().join("open"), "ms": 60_000 })
    }

    fn open(&self) {
        std::fs::write(self.0.path().join("open"), "").expect("writes");
    }
}

/// A call of hostile that is in flight, and as long as `hang` says.
fn slow_call(harness: &Harness, hang: &Value) -> JoinHandle<bool> {
    let (hostile, body) = (harness.plugin("hostile"), hang.to_string());
    let running = thread::spawn(move || hostile.call("slow", body.as_bytes()).is_ok());
    wait_until("the call being in flight", || {
        harness.host.status().plugin("hostile").is_some_and(|plugin| plugin.in_flight > 0)
    });
    running
}

const MINUTE: Duration = Duration::from_secs(60);

/// Once, one plugin whose export failed kept all after it from being saved, and
/// the command blamed the disk.
#[test]
fn one_plugin_that_cannot_be_saved_does_not_keep_others_from_it() {
    let config = json!({ "faults": { "export": { "fail": "no" } } });
    let mut harness = counting(config, MINUTE, MINUTE);
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter.so", "limiter@1.0.0");
    match harness.host.save_state().wait() {
        Err(HostError::Failed(failure)) => assert_eq!(failure.code, "hook.failed", "{failure}"),
        other => panic!("{other:?}"),
    }
    harness.expect("saving the other", |event| {
        matches!(event.kind, EventKind::StateSaved { .. }) && is(event, "limiter@1.0.0")
    });
}

/// Once, an export that hung cost a thread more and ten seconds of the loop at
/// every interval.
#[test]
fn an_export_that_hangs_is_not_begun_again_beside_itself() {
    let gate = Gate::new();
    let harness = counting(json!({ "faults": { "export": { "hang": gate.hang() } } }), HOOK_TIMEOUT, MINUTE);
    for _ in 0..3 {
        match harness.host.save_state().wait() {
            Err(HostError::Failed(failure)) => assert_eq!(failure.code, "hook.timeout", "{failure}"),
            other => panic!("{other:?}"),
        }
    }
    let snapshots = || {
        let status = harness.host.status();
        let leases = &status.plugin("hostile").expect("is known").leases;
        leases.iter().filter(|lease| lease.holder == "snapshot").count()
    };
    assert_eq!(snapshots(), 1);
    gate.open();
    wait_until("the export's end", || snapshots() == 0);
    assert_eq!(harness.host.save_state().wait().expect("is saved again"), 1);
    let (events, _home) = harness.shutdown();
    let problems = events.iter().filter(|event| event.kind.name() == "state_problem").count();
    assert_eq!(problems, 2, "the hook that hung, and once that it is not tried");
}

#[test]
fn deleting_a_plugin_with_a_call_in_flight_holds_up_nothing_else() {
    let mut harness = counting(json!({}), MINUTE, MINUTE);
    let gate = Gate::new();
    let running = slow_call(&harness, &gate.hang());
    harness.delete("hostile-1.0.0.so");
    harness.expect("retiring", |event| matches!(event.kind, EventKind::Retired));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    let status = harness.host.status();
    let leaving = &status.plugin("hostile").expect("is known").unloading;
    assert_eq!((leaving.len(), leaving[0].stage.as_str()), (1, "draining"));

    // Its state is not saved yet, so what comes next waits for it.
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    harness.expect("reading 2.0.0", |event| {
        matches!(event.kind, EventKind::Found { .. }) && is(event, "hostile@2.0.0")
    });
    assert_eq!(harness.activate("hostile", "2.0.0").expect_err("is busy").code, "gate.busy");

    gate.open();
    assert!(running.join().expect("does not panic"), "the call in flight is answered");
    harness.published("hostile@2.0.0");
    assert_eq!(harness.plugin("hostile").call("count", b"").expect("counts").text(), Ok("5"));
}

/// Once, each plugin with a call that did not return took the shutdown timeout
/// for itself.
#[test]
fn a_shutdown_ends_in_time_though_calls_run_on_and_exports_hang() {
    let gate = Gate::new();
    let timeout = Duration::from_secs(5);
    let config = json!({ "faults": { "export": { "hang": gate.hang() } } });
    let mut harness = counting(config, MINUTE, timeout);
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter.so", "limiter@1.0.0");
    harness.deploy(&artifacts::plugin("threads-v1"), "threads.so", "threads@1.0.0");
    let running = slow_call(&harness, &gate.hang());
    let lease = harness.plugin("threads").lease("the test").expect("serves");
    let (let_end, end) = mpsc::channel::<()>();
    let entered = thread::spawn(move || lease.enter(|_| end.recv().is_err()).is_ok());
    let begun = Instant::now();
    let (events, _home) = harness.shutdown();
    assert!(begun.elapsed() < 2 * timeout, "{:?}", begun.elapsed());
    let problems = events.iter().filter(|event| event.kind.name() == "state_problem").count();
    assert_eq!(problems, 2, "calls that ran, and an export that hung");
    assert!(events.iter().any(|event| event.kind.name() == "state_saved" && is(event, "limiter@1.0.0")));
    gate.open();
    drop(let_end);
    assert!(running.join().expect("does not panic"), "the library stays while a call runs in it");
    assert!(entered.join().expect("does not panic"), "so does the other");
}

/// Once, the end of a refused attempt took the copy that serves off the watch:
/// both are the same version.
#[test]
fn a_call_that_is_stuck_in_a_version_that_was_tried_twice_is_reported() {
    // A thread keeps the first copy for as long as the test wants.
    let gate = Gate::new();
    let faults = json!({ "prepare": { "linger": gate.hang() } });
    let config = json!({ "only_version": "2.0.0", "faults": faults });
    let mut harness = Harness::with(|options| {
        let options = options.stuck_after(Duration::from_millis(600)).config("hostile", config);
        options.quiesce_timeout(Duration::from_millis(50)).threads_timeout(Duration::from_millis(50))
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let lease = harness.plugin("hostile").lease("the test").expect("serves");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "gate.quiesce_timeout");
    drop(lease);
    harness.activate("hostile", "2.0.0").expect("activates");
    gate.open();
    wait_until("both that left being gone", || {
        harness.host.status().plugin("hostile").is_some_and(|plugin| plugin.unloads_proven == 2)
    });
    let gate = Gate::new();
    let running = slow_call(&harness, &gate.hang());
    harness.expect("reporting it", |event| {
        matches!(event.kind, EventKind::StuckCall { .. }) && is(event, "hostile@2.0.0")
    });
    gate.open();
    assert!(running.join().expect("does not panic"), "it is answered");
}

/// Once, a version was in no status while its last state was saved.
#[test]
fn a_version_whose_last_state_is_saved_is_shown_until_it_is_gone() {
    let gate = Gate::new();
    let config = json!({ "faults": { "export": { "hang": gate.hang() } } });
    let mut harness = counting(config, MINUTE, MINUTE);
    harness.delete("hostile-1.0.0.so");
    wait_until("the save being shown", || {
        let status = harness.host.status();
        status.plugin("hostile").is_some_and(|plugin| plugin.unloading.iter().any(|u| u.stage == "saving"))
    });
    gate.open();
    harness.expect("the save", |event| matches!(event.kind, EventKind::StateSaved { .. }));
    harness.unloaded("hostile@1.0.0");
}

/// Once, its last snapshot began with a second freeze beside the first.
#[test]
fn a_version_whose_freeze_hangs_is_not_frozen_again_when_it_leaves() {
    let gate = Gate::new();
    let trace = gate.0.path().join("hooks");
    let config = json!({
        "only_version": "1.0.0",
        "faults": { "freeze": { "hang": gate.hang() } },
        "trace": trace,
    });
    let mut harness = counting(config, HOOK_TIMEOUT, Duration::from_millis(200));
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "hook.timeout");
    harness.delete("hostile-2.0.0.so");
    harness.delete("hostile-1.0.0.so");
    let problem = harness.expect("its state not being saved", |event| {
        matches!(event.kind, EventKind::StateProblem { .. }) && is(event, "hostile@1.0.0")
    });
    assert!(format!("{problem:?}").contains("still runs"), "{problem:?}");
    gate.open();
    harness.unloaded("hostile@1.0.0");
    let hooks = std::fs::read_to_string(&trace).expect("was written");
    assert_eq!(hooks.lines().filter(|line| *line == "1.0.0 Freeze").count(), 1, "{hooks}");
}

/// Once, only calls in versions that serve were looked at: not those that a fix
/// was deployed for.
#[test]
fn a_call_that_is_stuck_in_a_version_that_was_replaced_is_reported() {
    let mut harness = Harness::with(|options| options.stuck_after(Duration::from_millis(600)));
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let lease = harness.plugin("threads").lease("the test").expect("serves");
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    // Not before: a call that is stuck while the version still serves is reported then.
    let (let_end, end) = mpsc::channel::<()>();
    let running = thread::spawn(move || lease.enter(|_| end.recv().is_err()).is_ok());
    harness.expect("reporting it", |event| {
        matches!(event.kind, EventKind::StuckCall { .. }) && is(event, "threads@1.0.0")
    });
    drop(let_end);
    assert!(running.join().expect("does not panic"), "it ends in its version");
}

#[test]
fn the_last_state_is_exported_from_a_frozen_version() {
    // Only a version that was asked to freeze can fail to.
    let harness = counting(json!({ "faults": { "freeze": { "fail": "no" } } }), MINUTE, MINUTE);
    let (events, _home) = harness.shutdown();
    assert!(events.iter().any(|event| {
        matches!(&event.kind, EventKind::StateProblem { failure } if failure.message.contains("freeze"))
    }));
    assert!(events.iter().any(|event| event.kind.name() == "state_saved"), "it is saved all the same");
}

/// Once, it panicked there, and the host ended while its caller unwound.
#[test]
fn a_host_can_be_shut_down_from_async_code() {
    let harness = counting(json!({}), MINUTE, MINUTE);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { harness.host.shutdown() }).expect("ends");
    let again = harness.host.shutdown().expect_err("it has ended");
    assert_eq!(again.code().as_str(), "host.stopped");
}

#[test]
fn a_host_that_ended_gives_its_data_directory_back_though_handles_are_left() {
    let home = tempfile::tempdir().expect("a directory");
    let options = || Host::builder(home.path().join("plugins"));
    let first = options().start().expect("starts");
    let second = options().start().err().expect("the directory is in use");
    assert_eq!(second.code().as_str(), "host.data_locked");
    assert!(home.path().join(".plugins.replug").is_dir(), "each plugin directory has its own");
    let other = Host::builder(home.path().join("others")).start().expect("a sibling starts");
    first.shutdown().expect("ends");
    let second = options().start().expect("starts");
    second.shutdown().expect("ends");
    other.shutdown().expect("ends");
}

#[test]
fn commands_are_refused_rather_than_waited_for_while_the_host_is_busy() {
    let gate = Gate::new();
    let harness =
        counting(json!({ "faults": { "export": { "hang": gate.hang() } } }), Duration::from_secs(20), MINUTE);
    let busy = harness.host.save_state();
    wait_until("the export", || {
        harness.host.status().plugin("hostile").is_some_and(|plugin| !plugin.leases.is_empty())
    });
    let waiting: Vec<_> = (0..64).map(|_| harness.host.save_state()).collect();
    let error = harness.host.save_state().wait().expect_err("too many");
    assert!(matches!(error, HostError::Busy { waiting: 64 }), "{error}");
    gate.open();
    for outcome in waiting.into_iter().chain([busy]) {
        assert_eq!(outcome.wait().expect("is saved"), 1);
    }
}
