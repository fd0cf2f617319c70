//! Hand-overs that are given up: what callers, the old version and the refused
//! one see of it.

use replug_host::{event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    hostile::{self, HOOK_TIMEOUT, Trace},
};
use serde_json::json;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// hostile 1.0.0 serves; in 2.0.0 `hook` hangs until the file is there.
fn started(trace: &Trace, hook: &str, end: &Path, hook_timeout: Duration, gate: Duration) -> Harness {
    let config = json!({
        "only_version": "2.0.0",
        "faults": { hook: { "hang": { "until_file": end } } },
        "trace": trace.path(),
    });
    let mut harness = Harness::with(|options| {
        let options = options.config("hostile", config).hook_timeout(hook_timeout);
        options.gate_timeout(gate).quiesce_timeout(gate / 2)
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness
}

fn drop_second(harness: &Harness) {
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
}

#[test]
fn the_old_version_thaws_and_the_refused_one_runs_no_further_hook() {
    let trace = Trace::new();
    let end = trace.folder.path().join("end");
    let mut harness = started(&trace, "restore", &end, HOOK_TIMEOUT, Duration::from_secs(8));
    drop_second(&harness);
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "hook.timeout");
    assert!(trace.has("1.0.0 Freeze") && trace.has("1.0.0 Thaw"), "it serves on as it did before");
    fs::write(&end, b"").expect("writes");
    harness.gone("hostile@2.0.0");
    assert!(trace.has("2.0.0 Stop"), "what was prepared is stopped");
    assert!(!trace.has("2.0.0 Activate"), "a hook began that nobody waited for");
}

#[test]
fn a_hand_over_that_takes_too_long_is_given_up_before_callers_are_refused() {
    let trace = Trace::new();
    let end = trace.folder.path().join("end");
    let mut harness = started(&trace, "activate", &end, Duration::from_secs(60), Duration::from_secs(2));
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (hostile, done) = (harness.plugin("hostile"), Arc::clone(&done));
            thread::spawn(move || {
                let mut added = 0_u64;
                while !done.load(Ordering::Acquire) {
                    hostile.call("add", b"1").expect("waits, and is served");
                    added += 1;
                }
                added
            })
        })
        .collect();
    drop_second(&harness);
    let failure = harness.not_deployed("hostile@2.0.0");
    assert_eq!(failure.code, "hook.timeout");
    assert!(failure.message.contains("together took longer than 1800 ms"), "{failure}");
    done.store(true, Ordering::Release);
    let added: u64 = callers.into_iter().map(|caller| caller.join().expect("no call fails")).sum();
    let count = harness.plugin("hostile").call("count", b"").expect("counts");
    assert_eq!(count.text(), Ok(&*added.to_string()));
    fs::write(&end, b"").expect("writes");
    harness.gone("hostile@2.0.0");
}

/// Once, each retry made callers wait for as long as they are made to, for what
/// could be known to be too slow before the gate closed.
#[test]
fn a_hand_over_that_cannot_fit_its_budget_is_refused_before_the_gate_closes_and_tried_again() {
    let trace = Trace::new();
    let config = json!({
        "only_version": "1.0.0",
        "faults": { "export": { "hang": { "ms": 600 } } },
        "trace": trace.path(),
    });
    let mut harness = Harness::with(|options| {
        let options = options.config("hostile", config);
        options.gate_timeout(Duration::from_millis(500)).quiesce_timeout(Duration::from_millis(100))
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    drop_second(&harness);
    let refused = harness.expect("the refusal", |event| {
        matches!(event.kind, EventKind::DeployFailed { .. }) && is(event, "hostile@2.0.0")
    });
    let EventKind::DeployFailed { failure, retry_in_ms, .. } = &refused.kind else {
        unreachable!("just matched")
    };
    assert_eq!(failure.code, "gate.budget", "{failure}");
    assert!(failure.message.contains("export took "), "{failure}");
    assert!(failure.message.contains("450 ms of the gate_timeout, 500 ms"), "{failure}");
    assert!(retry_in_ms.is_some(), "its state may shrink");
    assert!(!trace.has("1.0.0 Freeze"), "callers waited for what could not work");
}

/// A hand-over opens its gate before callers lose patience, so this takes a gate
/// that is opened late: here because callers have less patience than the host
/// needs to give a hook up.
#[test]
fn a_caller_at_a_gate_that_is_opened_late_is_refused_unseen_and_may_call_again() {
    let config = hostile::only("1.0.0", json!({ "freeze": { "hang": { "ms": 200 } } }));
    let mut harness = Harness::with(|options| {
        let options = options.config("hostile", config);
        options.gate_timeout(Duration::from_micros(400)).quiesce_timeout(Duration::from_micros(200))
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    drop_second(&harness);
    harness.not_deployed("hostile@2.0.0");
    let refused = Arc::new(AtomicBool::new(false));
    let caller = thread::spawn({
        let (hostile, refused) = (harness.plugin("hostile"), Arc::clone(&refused));
        move || {
            for added in 0_u64.. {
                if let Err(error) = hostile.call("add", b"1") {
                    refused.store(true, Ordering::Release);
                    return (added, error);
                }
            }
            unreachable!("2^64 calls are not made")
        }
    });
    wait_until("a caller being refused", || {
        harness.activate("hostile", "2.0.0").expect_err("freeze hangs");
        refused.load(Ordering::Acquire)
    });
    let (added, error) = caller.join().expect("does not panic");
    assert_eq!((error.code().as_str(), error.is_retryable()), ("gate.timeout", true), "{error}");
    let mut count = None;
    wait_until("being served again", || {
        count = harness.plugin("hostile").call("count", b"").ok();
        count.is_some()
    });
    assert_eq!(
        count.expect("is served").text(),
        Ok(&*added.to_string()),
        "it saw nothing of the refused call"
    );
}
