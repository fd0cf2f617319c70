//! The bounds of calls: those between plugins, and those at the end of a host.

use replug_host::{CallError, CallOptions, Plugin, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, wait_until},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// Makes the plugin `waker` call itself.
fn relay(waker: &Plugin, method: &str, bytes: usize) -> Result<String, CallError> {
    let body = json!({ "plugin": "waker", "method": method, "bytes": bytes }).to_string();
    let reply = waker.call_with("relay", body.as_bytes(), &CallOptions::default().no_timeout())?;
    Ok(reply.text().expect("text").to_owned())
}

fn refused_by_the_host(result: Result<String, CallError>) -> (String, bool) {
    match result.expect_err("is refused") {
        CallError::Plugin { code, retryable, .. } => (code, retryable),
        other => panic!("the plugin hands the refusal on, but: {other}"),
    }
}

#[test]
fn calls_between_plugins_have_a_deadline_and_a_largest_body() {
    let mut harness = Harness::with(|options| options.body_bytes_max(100));
    harness.deploy(&artifacts::hostile("hostile-waker"), "waker.so", "waker@1.0.0");
    let waker = harness.plugin("waker");
    let left: u64 = relay(&waker, "time_left", 100).expect("answers").parse().expect("has a deadline");
    assert!((1..=30_000).contains(&left), "{left} ms");
    let refused = refused_by_the_host(relay(&waker, "time_left", 101));
    assert_eq!(refused, ("call.payload_too_large".to_owned(), false));
}

/// Once, only the answer to the host itself was bounded.
#[test]
fn answers_between_plugins_have_a_largest_body() {
    let mut harness = Harness::with(|options| options.answer_bytes_max(100));
    harness.deploy(&artifacts::hostile("hostile-waker"), "waker.so", "waker@1.0.0");
    let waker = harness.plugin("waker");
    assert_eq!(relay(&waker, "echo", 100).expect("fits").len(), 100);
    assert_eq!(refused_by_the_host(relay(&waker, "echo", 101)), ("call.payload_too_large".to_owned(), false));
}

#[test]
fn calls_between_plugins_count_as_in_flight() {
    let mut harness = Harness::with(|options| options.in_flight_max(1));
    harness.deploy(&artifacts::hostile("hostile-waker"), "waker.so", "waker@1.0.0");
    let refused = refused_by_the_host(relay(&harness.plugin("waker"), "time_left", 0));
    assert_eq!(refused, ("call.overloaded".to_owned(), true));
}

#[test]
fn calls_that_the_end_of_the_host_finds_pending_are_woken_and_told() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut harness = Harness::with(|options| options.shutdown_timeout(Duration::from_millis(50)));
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut call =
        Box::pin(threads.call_async("sleep", br#"{"ms": 600000}"#, CallOptions::default().no_timeout()));
    assert!(call.as_mut().poll(&mut context).is_pending());
    harness.shutdown();
    wait_until("being woken", || woken.0.load(Ordering::Relaxed));
    assert!(matches!(call.as_mut().poll(&mut context), Poll::Ready(Err(CallError::Stopped))));
    let error = threads.call("churn", b"x").expect_err("has stopped");
    assert_eq!(error.code().as_str(), "host.stopped");
}
