//! Calls: async and nested ones, their limits, and what callers are told.

use replug_host::{CallError, CallOptions, Plugin, event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, wait_until},
};
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
        serde_json::json!({ "plugin": "threads", "method": "nested", "body": inner }).to_string()
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
    // Both are built before the call that is in the way begins.
    let (first, second) = (artifacts::hostile("hostile-v1"), artifacts::hostile("hostile-v2"));
    harness.deploy(&first, "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    let slow = hostile.clone();
    let running = thread::spawn(move || slow.call("slow", br#"{"ms": 3000}"#));
    wait_until("the call being in flight", || {
        harness.host.status().plugin("hostile").is_some_and(|plugin| plugin.in_flight > 0)
    });
    harness.drop_file(replug_tests::harness::How::Rename, &second, "hostile-2.0.0.so");
    assert_eq!(harness.not_deployed("hostile@2.0.0").code, "gate.quiesce_timeout");
    assert_eq!(hostile.call("add", b"1").expect("serves on").text(), Ok("1"));
    running.join().expect("does not panic").expect("is answered by its version");
}
