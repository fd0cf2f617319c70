//! Calls that a rehearsal makes: the examples that a version gives, and those that came last
//! to the one that serves.

use crate::process::{Daemon, text};
use replug_tests::{artifacts, harness::wait_until};
use serde_json::{Value, json};

/// The newest event of this kind.
pub(crate) fn newest(daemon: &Daemon, kind: &str) -> Value {
    let mut found = Value::Null;
    wait_until(kind, || {
        let events = text(&daemon.verb(&["events"]).stdout);
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        found = events.into_iter().rfind(|event| event["event"] == kind).unwrap_or_default();
        !found.is_null()
    });
    found
}

#[test]
fn calls_that_came_last_are_made_on_both_versions_and_answers_that_differ_are_listed() {
    let daemon = Daemon::with("[rehearsal.keep-calls]\nhostile = 4\n");
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    for (method, body) in [("version", "too old to be kept"), ("add", "7"), ("count", "")] {
        daemon.verb(&["call", "hostile", method, "--data", body]);
    }
    for body in ["a", "b"] {
        daemon.verb(&["call", "hostile", "version", "--data", body]);
    }
    daemon.deploy(&artifacts::hostile("hostile-v2"), "hostile@2.0.0");
    let rehearsed = newest(&daemon, "rehearsed");
    assert_eq!(rehearsed["passed"], true, "{rehearsed}");
    let other = |body: &str| json!({ "method": "version", "body": body, "before": "hostile 1.0.0", "now": "hostile 2.0.0" });
    // That they answer the same count says that both had the state; `add` is not repeatable.
    let all = json!({ "calls": 3, "left_out": 1, "differ": 2, "differing": [other("a"), other("b")] });
    assert_eq!(rehearsed["replayed"], all);
    let count = daemon.verb(&["call", "hostile", "count"]);
    assert_eq!(text(&count.stdout).trim(), "7", "what was called was a copy");
}

#[test]
fn calls_are_kept_only_where_that_is_asked() {
    let daemon = Daemon::with("");
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    daemon.verb(&["call", "hostile", "version"]);
    daemon.deploy(&artifacts::hostile("hostile-v2"), "hostile@2.0.0");
    assert_eq!(newest(&daemon, "rehearsed")["replayed"], Value::Null);
}

#[test]
fn an_example_that_fails_or_ends_the_process_is_refused_with_the_step() {
    let faults = [
        ("{ fail = \"no reason\" }", "rehearsal.sample", "sampled"),
        ("{ panic = \"text\" }", "rehearsal.sample", "sampled"),
        ("{ crash = \"segv\" }", "rehearsal.crashed", "samples: killed by SIGSEGV"),
    ];
    for (fault, code, words) in faults {
        let config = format!("{{ only_version = \"2.0.0\", faults = {{ sample = {fault} }} }}");
        let daemon = Daemon::with(&format!("[plugin]\nhostile = {config}\n"));
        daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
        daemon.drop_file(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
        let refused = newest(&daemon, "deploy_failed");
        assert_eq!(refused["code"], code, "{refused}");
        let message = refused["message"].as_str().expect("a text");
        assert!(message.contains(words), "{message} does not say {words}");
        let called = daemon.verb(&["call", "hostile", "version"]);
        assert_eq!(text(&called.stdout).trim(), "hostile 1.0.0");
    }
}
