//! Calls: async and nested ones, their limits, and what callers are told.

use replug_host::{CallError, CallOptions, Plugin, PluginState, event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, wait_until},
    hostile,
    load::Load,
};
use serde_json::json;
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

/// Waits for a future on this thread, without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn with_threads() -> (Harness, Plugin) {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    (harness, threads)
}

fn nested(depth: usize) -> String {
    let innermost = r#"{"plugin":"threads","method":"churn","body":"a@example.org"}"#.to_owned();
    (1..depth).fold(innermost, |inner, _| {
        json!({ "plugin": "threads", "method": "nested", "body": inner }).to_string()
    })
}

#[test]
fn an_async_call_is_answered_without_any_runtime_on_the_callers_side() {
    let (_harness, threads) = with_threads();
    let reply = block_on(threads.call_async("echo", b"through a socket", CallOptions::default()));
    assert_eq!(reply.expect("answers").body(), b"through a socket");
}

#[test]
fn an_async_call_ends_at_its_deadline_and_is_counted() {
    let (harness, threads) = with_threads();
    let options = CallOptions::default().timeout(Duration::from_millis(30));
    let error = block_on(threads.call_async("sleep", br#"{"ms": 60000}"#, options)).expect_err("too long");
    assert_eq!(error.code().as_str(), "call.deadline");
    assert_eq!(harness.host.status().plugin("threads").map(|plugin| plugin.deadlines_passed), Some(1));
}

#[test]
fn a_pending_call_holds_its_version_and_dropping_it_lets_the_version_go() {
    let (mut harness, threads) = with_threads();
    let mut call = Box::pin(threads.call_async("sleep", br#"{"ms": 60000}"#, CallOptions::default()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut context).is_pending());
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    wait_until("the call being shown as a holder", || {
        let status = harness.host.status();
        let unloading = status.plugin("threads").map(|plugin| plugin.unloading.clone()).unwrap_or_default();
        unloading.iter().flat_map(|version| &version.leases).any(|lease| lease.holder == "async call")
    });
    drop(call);
    harness.unloaded("threads@1.0.0");
}

#[test]
fn nested_and_cyclic_calls_are_answered() {
    let (_harness, threads) = with_threads();
    let reply = threads.call("nested", nested(6).as_bytes()).expect("answers");
    assert!(!reply.body().is_empty());
}

#[test]
fn plugins_that_call_each_other_without_end_are_stopped_at_the_bound() {
    let (mut harness, threads) = with_threads();
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    for (plugin, through) in [(&hostile, ""), (&hostile, "threads"), (&hostile, "")] {
        let error = plugin.call("recurse", through.as_bytes()).expect_err("it has no end");
        assert!(matches!(&error, CallError::Plugin { code, .. } if code == "call.depth"), "{error}");
    }
    let round = json!({ "plugin": "hostile", "method": "recurse", "body": "threads" }).to_string();
    let error = threads.call("nested", round.as_bytes()).expect_err("it has no end");
    assert!(matches!(&error, CallError::Plugin { code, .. } if code == "call.depth"), "{error}");
    assert_eq!(hostile.call("add", b"1").expect("serves on").text(), Ok("1"));
    // Nothing of the chains is left behind that would keep a version.
    hostile::drop_version(&harness, 2);
    harness.published("hostile@2.0.0");
    harness.unloaded("hostile@1.0.0");
}

#[test]
fn nested_and_cyclic_calls_of_many_threads_are_answered_while_their_plugins_are_replaced() {
    let (mut harness, threads) = with_threads();
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    // threads, itself again, and hostile, whose state is handed over meanwhile.
    let add = json!({ "plugin": "hostile", "method": "add", "body": "1" }).to_string();
    let cycle = json!({ "plugin": "threads", "method": "nested", "body": add }).to_string();
    let load = Load::start(4, move |_, _, _| threads.call("nested", cycle.as_bytes()).map(drop));
    load.wait_for(200);
    hostile::drop_version(&harness, 2);
    harness.published("hostile@2.0.0");
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    for version in ["1.0.0", "2.0.0"] {
        load.wait_for(200);
        harness.activate("hostile", version).expect("activates");
        harness.activate("threads", version).expect("activates");
    }
    load.wait_for(200);
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    let counted = hostile.call("count", b"").expect("counts");
    assert_eq!(counted.text(), Ok(log.answered.to_string().as_str()), "each answered call counted once");
}

#[test]
fn at_a_closed_gate_a_deadline_ends_a_call_unseen_and_the_patient_are_served() {
    let faults = json!({ "freeze": { "hang": {} } });
    let mut harness = hostile::counting(hostile::only("1.0.0", faults), |options| {
        options.hook_timeout(Duration::from_secs(2))
    });
    let plugin = harness.plugin("hostile");
    hostile::drop_version(&harness, 2);
    wait_until("the gate being closed", || hostile::state(&harness) == PluginState::HandingOver);
    let patient = thread::spawn({
        let plugin = plugin.clone();
        move || plugin.call("count", b"")
    });
    let options = CallOptions::default().timeout(Duration::from_millis(50));
    let error = block_on(plugin.call_async("add", b"1", options)).expect_err("waits in vain");
    assert_eq!(error.code().as_str(), "call.deadline");
    assert!(error.is_retryable());
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "hook.timeout");
    assert_eq!(patient.join().expect("does not panic").expect("is served").text(), Ok("5"));
    hostile::kept(&harness, "1.0.0");
    hostile::release(&harness);
}

#[test]
fn a_nested_call_of_nobody_says_so() {
    let (_harness, threads) = with_threads();
    let error = threads.call("nested", br#"{"plugin":"nobody","method":"x"}"#).expect_err("is not there");
    assert!(matches!(&error, CallError::Plugin { code, .. } if code == "call.unknown_plugin"), "{error}");
}

#[test]
fn bodies_and_calls_in_flight_are_limited() {
    let mut harness = Harness::with(|options| options.body_bytes_max(16).in_flight_max(1));
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    let error = threads.call("churn", &[b'x'; 17]).expect_err("too large");
    assert_eq!(error.code().as_str(), "call.payload_too_large");
    let slow = threads.clone();
    // The polling below may take the one place first; then it is tried again.
    let running = thread::spawn(move || {
        loop {
            match slow.call("slow", br#"{"ms": 3000}"#) {
                Err(CallError::Overloaded { .. }) => {}
                other => return other,
            }
        }
    });
    wait_until("the limit being reached", || {
        matches!(threads.call("churn", b"x"), Err(CallError::Overloaded { in_flight_max: 1, .. }))
    });
    running.join().expect("does not panic").expect("is answered");
    assert!(threads.call("churn", b"x").is_ok());
}

#[test]
fn a_call_that_does_not_return_is_reported_as_stuck() {
    let mut harness = Harness::with(|options| options.stuck_after(Duration::from_millis(150)));
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    let running = thread::spawn(move || threads.call("slow", br#"{"ms": 2000}"#));
    let event = harness.expect("reporting it", |event| matches!(event.kind, EventKind::StuckCall { .. }));
    assert_eq!(event.plugin.as_deref(), Some("threads"));
    running.join().expect("does not panic").expect("is answered");
}

#[test]
fn a_hand_over_that_cannot_begin_is_abandoned_and_callers_were_only_delayed() {
    let mut harness = Harness::with(|options| options.quiesce_timeout(Duration::from_millis(50)));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    let slow = hostile.clone();
    let running = thread::spawn(move || slow.call("slow", b""));
    wait_until("the call being in flight", || {
        harness.host.status().plugin("hostile").is_some_and(|plugin| plugin.in_flight > 0)
    });
    hostile::drop_version(&harness, 2);
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "gate.quiesce_timeout");
    assert_eq!(hostile.call("add", b"1").expect("serves on").text(), Ok("1"));
    hostile::release(&harness);
    running.join().expect("does not panic").expect("is answered by its version");
}
