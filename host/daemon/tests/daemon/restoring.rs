//! `replug state`: saved state in an operator's hands.

use crate::{
    http::ask,
    process::{Daemon, text},
};
use replug_tests::{artifacts, harness::wait_until};
use serde_json::Value;
use std::{fs, process::Output};

/// A daemon on which limiter 1.0.0 serves, and has counted for ada.
fn counting(takes: usize) -> Daemon {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::plugin("limiter-v1"), "limiter@1.0.0");
    take(&daemon, takes);
    daemon
}

fn take(daemon: &Daemon, times: usize) {
    for _ in 0..times {
        done(&daemon.verb(&["call", "limiter", "take", "--data", r#"{"key":"ada"}"#]));
    }
}

fn count(daemon: &Daemon) -> String {
    done(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]))
}

/// What a verb printed that did what it was asked for.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Saves now; the newest snapshot as it is listed.
fn save(daemon: &Daemon) -> Value {
    assert_eq!(done(&daemon.verb(&["state", "save"])), "1 plugins saved\n");
    let listed = done(&daemon.verb(&["state", "list", "limiter", "-o", "json"]));
    serde_json::from_str::<Value>(&listed).expect("JSON")[0].clone()
}

/// What a verb said that was refused.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

#[test]
fn an_operator_lists_shows_and_restores_a_snapshot_and_undoes_it() {
    let daemon = counting(2);
    let saved = save(&daemon);
    assert_eq!((&saved["condition"], &saved["plugin_version"]), (&"sound".into(), &"1.0.0".into()));
    let table = done(&daemon.verb(&["state", "list"]));
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("PLUGIN   SNAPSHOT  TAKEN ")), "{table}");
    let line = lines.next().expect("a snapshot");
    let short = &saved["sha256"].as_str().expect("a digest")[..8];
    assert!(line.starts_with("limiter  1 ") && line.ends_with(short), "{table}");
    assert_eq!(done(&daemon.verb(&["state", "list", "limiter"])), table);

    let shown: Value =
        serde_json::from_str(&done(&daemon.verb(&["state", "show", "limiter"]))).expect("JSON");
    assert_eq!(shown["buckets"]["ada"]["taken"], 2);
    let whole = done(&daemon.verb(&["state", "show", "limiter", "--snapshot", "1", "-o", "json"]));
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!((&whole["state"], &whole["sequence"]), (&shown, &1.into()));

    take(&daemon, 3);
    let restored = done(&daemon.verb(&["state", "restore", "limiter", "--snapshot", "1"]));
    assert!(restored.starts_with("limiter@1.0.0+"), "{restored}");
    assert_eq!(count(&daemon), "2");
    let undo = restored.trim_end().rsplit(' ').next().expect("a number");
    done(&daemon.verb(&["state", "restore", "limiter", "--snapshot", undo]));
    assert_eq!(count(&daemon), "5");
    assert!(done(&daemon.verb(&["events"])).contains(r#""event":"state_restored","snapshot":1,"#));
}

#[test]
fn an_exported_snapshot_starts_a_plugin_on_another_host() {
    let first = counting(4);
    save(&first);
    let file = first.home().join("limiter.state");
    let path = file.to_str().expect("text");
    let written = done(&first.verb(&["state", "export", "limiter", path]));
    assert!(written.starts_with(&format!("{path} has the snapshot, ")), "{written}");

    let second = Daemon::start();
    let imported = done(&second.verb(&["state", "import", "limiter", path]));
    assert_eq!(imported, "snapshot 1 of limiter, of schema 1, is the newest\n");
    second.deploy(&artifacts::plugin("limiter-v2"), "limiter@2.0.0");
    assert_eq!(count(&second), "4");
    let foreign = done(&second.verb(&["state", "import", "gauge", path, "--foreign"]));
    assert_eq!(foreign, "snapshot 1 of gauge, of schema 1, is the newest\n");
    let restored = done(&second.verb(&["state", "restore", "gauge"]));
    assert_eq!(restored, "the next start restores the state of snapshot 1\n");
}

#[test]
fn what_cannot_be_done_with_saved_state_is_refused_with_a_code() {
    let daemon = counting(1);
    save(&daemon);
    let file = daemon.home().join("limiter.state");
    let path = file.to_str().expect("text");
    done(&daemon.verb(&["state", "export", "limiter", path]));
    let cut = daemon.home().join("cut.state");
    let bytes = fs::read(&file).expect("is there");
    fs::write(&cut, &bytes[..bytes.len() - 9]).expect("writes");
    let cut = cut.to_str().expect("text");
    let nowhere = daemon.home().join("none/limiter.state");
    let nowhere = nowhere.to_str().expect("text");
    for (words, code) in [
        (&["state", "list", "nobody"][..], "call.unknown_plugin"),
        (&["state", "list", "no/body"], "request.invalid"),
        (&["state", "show", "nobody"], "state.unknown_snapshot"),
        (&["state", "show", "limiter", "--snapshot", "99"], "state.unknown_snapshot"),
        (&["state", "export", "limiter", "--snapshot", "99", path], "state.unknown_snapshot"),
        (&["state", "export", "limiter", nowhere], "state.store"),
        (&["state", "import", "limiter", nowhere], "request.invalid"),
        (&["state", "import", "limiter", cut], "state.bad_import"),
        (&["state", "import", "gauge", path], "state.foreign"),
        (&["state", "restore", "limiter", "--snapshot", "99"], "state.unknown_snapshot"),
    ] {
        let error = refused(&daemon.verb(words));
        assert!(error.starts_with(&format!("error[{code}]: ")), "{words:?}: {error}");
        assert!(error.contains("\n  next:  "), "{words:?}: {error}");
    }
    let usage = daemon.verb(&["state", "show", "limiter", "--snapshot", "newest"]);
    assert_eq!(usage.status.code(), Some(2));
    assert_eq!(count(&daemon), "1");
}

#[test]
fn routes_of_state_answer_with_problems_and_an_import_has_the_limit_of_state() {
    let daemon = Daemon::with("state-bytes-max = 1000\n");
    let large = "x".repeat(200_000);
    for (line, headers, body, status, code) in [
        ("GET /v1/plugins/nobody/state/export", "", "", 404, "state.unknown_snapshot"),
        ("GET /v1/plugins/nobody/state/show?snapshot=one", "", "", 400, "request.invalid"),
        ("GET /v1/plugins/nobody/state/show?number=1", "", "", 400, "request.invalid"),
        ("POST /v1/plugins/nobody/state", "", "", 405, "request.wrong_method"),
        ("POST /v1/plugins/nobody/state/import", "", "none", 422, "state.bad_import"),
        ("POST /v1/plugins/nobody/state/import", "", &large, 409, "state.too_large"),
        (
            "POST /v1/plugins/nobody/state/restore",
            "content-type: application/json\r\n",
            "{",
            400,
            "request.invalid",
        ),
    ] {
        let answer = ask(&daemon.socket(), line, headers, body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{line}");
    }
    let all = ask(&daemon.socket(), "GET /v1/state", "", "");
    assert_eq!((all.status, all.body.as_str()), (200, "[]"));
}

#[test]
fn a_damaged_snapshot_is_listed_with_what_is_wrong_with_it() {
    let daemon = counting(1);
    save(&daemon);
    let folder = daemon.home().join("data/state/limiter");
    let file = fs::read_dir(folder).expect("is there").next().expect("a snapshot").expect("an entry").path();
    let mut bytes = fs::read(&file).expect("is there");
    bytes[80] ^= 0x10;
    fs::write(&file, bytes).expect("writes");
    let listed = || done(&daemon.verb(&["state", "list", "limiter"]));
    wait_until("the damage showing", || listed().contains("state.corrupt: the snapshot "));
    let error = refused(&daemon.verb(&["state", "restore", "limiter", "--snapshot", "1"]));
    assert!(error.starts_with("error[state.corrupt]: "), "{error}");
}
