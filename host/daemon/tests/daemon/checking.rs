//! `replug check`: the rehearsal by hand.

use crate::{
    process::{replug, text},
    rehearsing::{inline, only_in_the_second, serving},
    signing::{Signer, trusting},
};
use replug_tests::artifacts;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_check_by_hand_says_what_a_host_would() {
    let (first, second) = (artifacts::hostile("hostile-v1"), artifacts::hostile("hostile-v2"));
    let home = tempfile::tempdir().expect("a directory");
    let config = |faults: Value| {
        let path = home.path().join("replug.toml");
        fs::write(&path, format!("[plugin]\nhostile = {}\n", inline(&only_in_the_second(faults))))
            .expect("writes");
        path
    };
    let check = |config: &std::path::Path, more: &[&str]| {
        let mut command = replug();
        command.arg("check").arg(&second).arg("--against").arg(&first).arg("--config").arg(config);
        command.args(more).output().expect("runs")
    };
    let sound = check(&config(json!({})), &["-o", "json"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stderr));
    let report: Value = serde_json::from_slice(&sound.stdout).expect("JSON");
    assert_eq!(report["passed"], true);
    let state = &report["report"]["state"];
    assert_eq!((state["from_schema"].as_u64(), state["to_schema"].as_u64()), (Some(1), Some(2)));
    assert_eq!(state["way_back"]["kind"], "steps", "{state}");
    assert_eq!(state["way_back"]["same"], true, "{state}");
    assert_eq!(report["hazards"], json!(["may change the whole process: signal"]));
    assert!(
        text(&check(&config(json!({})), &[]).stdout)
            .contains("\nhazard: may change the whole process: signal")
    );

    let crash = check(&config(json!({ "restore": { "crash": "segv" } })), &[]);
    assert_eq!(crash.status.code(), Some(1));
    let (table, error) = (text(&crash.stdout), text(&crash.stderr));
    let refused: Vec<&str> =
        table.lines().find(|line| line.starts_with("restore")).expect("is told").split_whitespace().collect();
    assert!(
        matches!(refused[..], ["restore", "refused", micros] if micros.parse::<u64>().is_ok()),
        "{table}"
    );
    assert!(table.contains("\nstate: schema 1 with 56 bytes, then 2; it went no further"), "{table}");
    assert!(error.contains("error[rehearsal.crashed]: rehearsal, restore: killed by SIGSEGV"), "{error}");
}

#[test]
fn a_check_against_what_runs_takes_its_state() {
    let daemon = serving(&json!({}), "");
    daemon.verb(&["call", "hostile", "add", "--data", "41"]);
    let second = artifacts::hostile("hostile-v2");
    let second = second.to_str().expect("text");
    let checked = daemon.verb(&["check", second, "--against", "running", "-o", "json"]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(report["report"]["state"]["from_schema"], 1, "{report}");
    // A number of two bytes, where a new instance has one of one.
    let first = artifacts::hostile("hostile-v1");
    let of_new = daemon.verb(&["check", second, "--against", first.to_str().expect("text"), "-o", "json"]);
    let of_new: Value = serde_json::from_slice(&of_new.stdout).expect("JSON");
    let bytes = |report: &Value| report["report"]["state"]["bytes_before"].as_u64().expect("a number");
    assert_eq!(bytes(&report), bytes(&of_new) + 1, "{report} {of_new}");
    assert_eq!(text(&daemon.verb(&["call", "hostile", "count"]).stdout).trim(), "41");
}

#[test]
fn a_check_against_what_runs_has_its_configuration_and_calls_and_deploys_nothing() {
    let faults = only_in_the_second(json!({ "self_test": { "crash": "segv" } }));
    let daemon = serving(&faults, "[rehearsal.keep-calls]\nhostile = 4\n");
    daemon.verb(&["call", "hostile", "version", "--data", "kept"]);
    let before = text(&daemon.verb(&["events"]).stdout);
    let check = |library: &str| {
        let library = artifacts::hostile(library);
        daemon.verb(&["check", library.to_str().expect("text"), "--against", "running"])
    };
    let crashed = check("hostile-v2");
    assert_eq!(crashed.status.code(), Some(1));
    assert!(text(&crashed.stderr).contains("rehearsal, self_test: killed by SIGSEGV"), "{crashed:?}");
    let sound = check("hostile-v3");
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stderr));
    let table = text(&sound.stdout);
    assert!(table.contains("calls: 1 made on both versions, 0 left out; 1 answers differ"), "{table}");
    assert!(table.contains(r#"version "kept": "hostile 1.0.0" before, "hostile 3.0.0" now"#), "{table}");
    assert_eq!(text(&daemon.verb(&["events"]).stdout), before, "nothing is told, and nothing deployed");
    let left = fs::read_dir(daemon.home().join("data/rehearsals")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of it stays on the disk");
}

#[test]
fn a_check_takes_a_state_that_was_exported() {
    let daemon = serving(&json!({}), "");
    daemon.verb(&["call", "hostile", "add", "--data", "300"]);
    assert!(daemon.verb(&["state", "save"]).status.success());
    let state = daemon.home().join("state");
    let state = state.to_str().expect("text");
    let exported = daemon.verb(&["state", "export", "hostile", state]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    daemon.verb(&["call", "hostile", "add", "--data", "70000"]);
    let second = artifacts::hostile("hostile-v2");
    let second = second.to_str().expect("text");
    let bytes = |more: &[&str]| {
        let checked = daemon.verb(&[&["check", second, "-o", "json"], more].concat());
        let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        report["report"]["state"]["bytes_before"].as_u64().expect("a number")
    };
    // A number of three bytes, and one of five.
    let (saved, now) = (bytes(&["--state", state]), bytes(&["--against", "running"]));
    assert_eq!(saved + 2, now);
    assert_eq!(bytes(&["--against", "running", "--state", state]), saved);
    let spoiled = daemon.home().join("spoiled");
    fs::write(&spoiled, "no state").expect("writes");
    let refused = daemon.verb(&["check", second, "--state", spoiled.to_str().expect("text")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("error[state."), "{}", text(&refused.stderr));
}

#[test]
fn a_host_in_production_checks_only_what_somebody_vouches_for() {
    let signer = Signer::new();
    let daemon = trusting(&signer, "");
    let library = artifacts::plugin("markdown-v1");
    let dropped = daemon.home().join("markdown.so");
    fs::copy(&library, &dropped).expect("copies");
    let check = || daemon.verb(&["check", dropped.to_str().expect("text"), "--against", "running"]);
    let refused = check();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("error[trust."), "{}", text(&refused.stderr));
    fs::write(daemon.home().join("markdown.so.minisig"), signer.signature(&library)).expect("writes");
    let sound = check();
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stderr));
}

#[test]
fn what_the_version_that_serves_does_wrong_in_a_rehearsal_is_not_the_new_ones_fault() {
    // It is exported by nobody in the host, and its crash is in the child alone.
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("replug.toml");
    for (fault, words) in [
        (json!({ "crash": "segv" }), "killed by SIGSEGV"),
        (json!("close_descriptors"), "it closed or used what it had not opened"),
    ] {
        let faults = json!({ "only_version": "1.0.0", "faults": { "prepare": fault } });
        fs::write(&path, format!("[plugin]\nhostile = {}\n", inline(&faults))).expect("writes");
        let checked = replug()
            .arg("check")
            .arg(artifacts::hostile("hostile-v2"))
            .arg("--against")
            .arg(artifacts::hostile("hostile-v1"))
            .arg("--config")
            .arg(&path)
            .output()
            .expect("runs");
        let said = text(&checked.stderr);
        let expected = format!("the version that serves: rehearsal, before: {words}");
        assert!(said.contains(&expected), "{said}");
    }
}
