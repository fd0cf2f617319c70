//! What HTTP clients are answered.

use crate::{
    http::ask,
    process::{Daemon, text},
};
use replug_tests::{artifacts, harness::wait_until};
use std::{
    fs,
    time::{Duration, Instant},
};

const JSON: &str = "content-type: application/json\r\n";

#[test]
fn every_refusal_is_a_problem_with_a_status_a_code_and_a_next_step() {
    let daemon = Daemon::with("body-bytes-max = 64\n");
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    let long = "x".repeat(65);
    let soon = "replug-timeout-ms: soon\r\n";
    let refusals = [
        ("GET /v1/nothing", "", "", 404, "request.unknown_route"),
        ("GET /", "", "", 404, "request.unknown_route"),
        ("DELETE /v1/status", "", "", 405, "request.wrong_method"),
        ("GET /v1/plugins/hostile/call/add", "", "", 405, "request.wrong_method"),
        ("GET /v1/plugins/%FF", "", "", 400, "request.invalid"),
        ("GET /v1/events?since=now", "", "", 400, "request.invalid"),
        ("GET /v1/events?form=1", "", "", 400, "request.invalid"),
        ("POST /v1/plugins/hostile/activate", JSON, "{", 400, "request.invalid"),
        ("POST /v1/plugins/hostile/activate", JSON, r#"{"verison":"1.0.0"}"#, 400, "request.invalid"),
        ("POST /v1/plugins/hostile/activate", JSON, r#"{"version":"one"}"#, 400, "request.invalid"),
        ("POST /v1/plugins/hostile/activate", "", "{}", 400, "request.invalid"),
        ("POST /v1/plugins/hostile/call/add", soon, "", 400, "request.invalid"),
        ("GET /v1/plugins/nobody", "", "", 404, "call.unknown_plugin"),
        ("GET /v1/plugins/nobody/methods", "", "", 404, "call.unknown_plugin"),
        ("POST /v1/plugins/nobody/call/add", "", "", 404, "call.unknown_plugin"),
        ("POST /v1/plugins/hostile/call/nothing", "", "", 404, "call.unknown_method"),
        ("POST /v1/plugins/hostile/activate", JSON, r#"{"version":"9.9.9"}"#, 404, "deploy.unknown_version"),
        ("POST /v1/plugins/hostile/call/add", "", &long, 413, "call.payload_too_large"),
        ("POST /v1/plugins/hostile/call/fault", "", r#"{"fail":"why"}"#, 422, "call.plugin"),
        ("POST /v1/plugins/hostile/call/panic", "", "", 500, "call.panicked"),
        ("POST /v1/plugins/hostile/call/add", "replug-timeout-ms: 0\r\n", "", 504, "call.deadline"),
    ];
    for (line, headers, body, status, code) in refusals {
        let answer = ask(&daemon.socket(), line, headers, body);
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{line}: {problem}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{line}: {}", answer.head);
        assert_eq!(problem["status"], status, "{line}");
        for field in ["title", "detail", "blame", "next"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{line}: {problem}");
        }
        assert_eq!(status == 405, answer.head.contains("\r\nallow: "), "{line}: {}", answer.head);
        let own_code = if code == "call.plugin" { Some("hostile.failed") } else { None };
        assert_eq!(problem["plugin_code"].as_str(), own_code, "{line}");
    }
    let count = ask(&daemon.socket(), "POST /v1/plugins/hostile/call/count", "", "");
    assert_eq!((count.status, count.body.as_str()), (200, "0"), "no refused call was carried out");
}

/// A call looks first whether its method is async, and waited for that at the
/// gate for as long as the gate allows, whatever its own timeout was.
#[test]
fn calls_at_a_closed_gate_end_at_their_timeout_or_are_served_when_it_opens() {
    let daemon = Daemon::with(
        "gate-timeout-ms = 3000\n\
         [plugin.hostile]\n\
         only_version = \"1.0.0\"\n\
         faults.freeze.hang.until_file = \"{home}/open\"\n",
    );
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    daemon.drop_file(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    wait_until("the gate closing", || daemon.status_of("hostile", "state") == "handing_over");
    let add = "POST /v1/plugins/hostile/call/add";
    let began = Instant::now();
    let late = ask(&daemon.socket(), add, "replug-timeout-ms: 50\r\n", "");
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("call.deadline")));
    assert!(began.elapsed() < Duration::from_millis(2500), "it waited for the gate");
    let patient = ask(&daemon.socket(), add, "", "");
    assert_eq!((patient.status, patient.body.as_str()), (200, "1"), "only the patient call was carried out");
    assert!(daemon.status_of("hostile", "active").as_str().is_some_and(|id| id.starts_with("hostile@1.0.0")));
    fs::write(daemon.home().join("open"), "").expect("writes");
}

#[test]
fn names_reach_the_host_as_they_are() {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    let plugin = text(&daemon.verb(&["call", "no/body?x=1#y", "add"]).stderr);
    assert!(plugin.contains(r#"error[call.unknown_plugin]: there is no plugin "no/body?x=1#y""#), "{plugin}");
    let method = text(&daemon.verb(&["call", "hostile", "../add ö%2F"]).stderr);
    assert!(method.contains("error[call.unknown_method]") && method.contains("../add ö%2F"), "{method}");
    let activated = text(&daemon.verb(&["activate", "a/b", "1.0.0"]).stderr);
    assert!(activated.contains("error[request.invalid]") && activated.contains("a/b"), "{activated}");
}

#[test]
fn async_methods_are_awaited_and_cancelled_at_their_timeout() {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::plugin("threads-v1"), "threads@1.0.0");
    let sleep = "POST /v1/plugins/threads/call/sleep";
    let slept = ask(&daemon.socket(), sleep, "", r#"{"ms":1}"#);
    assert_eq!((slept.status, slept.body.as_str()), (200, "slept"));
    let late = ask(&daemon.socket(), sleep, "replug-timeout-ms: 200\r\n", r#"{"ms":600000}"#);
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("call.deadline")));
}
