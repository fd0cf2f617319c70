//! Tables in an operator's hands: looked at, limited, and their sweeps paused.

use crate::{
    http::ask,
    process::{Daemon, text},
};
use replug_tests::{artifacts, harness::wait_until};
use serde_json::Value;

/// A daemon on which sessions 1.0.0 serves, with so many sessions.
fn with_sessions(config: &str, count: u32) -> Daemon {
    let daemon = Daemon::with(config);
    daemon.deploy(&artifacts::plugin("sessions-v1"), "sessions@1.0.0");
    let fill = format!(r#"{{"from": 0, "count": {count}}}"#);
    done(&daemon, &["call", "sessions", "fill", "--data", &fill]);
    daemon
}

/// What a verb printed that did what it was asked for.
fn done(daemon: &Daemon, words: &[&str]) -> String {
    let output = daemon.verb(words);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The table `sessions` as programs see it.
fn sessions(daemon: &Daemon) -> Value {
    let listed = done(daemon, &["tables", "sessions", "-o", "json"]);
    let tables: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    tables.into_iter().find(|table| table["name"] == "sessions").expect("is open")
}

#[test]
fn an_operator_sees_tables_and_pauses_and_resumes_their_sweep() {
    let daemon = with_sessions("", 1000);
    let listed = done(&daemon, &["tables"]);
    let mut lines = listed.lines();
    assert!(
        lines.next().is_some_and(|line| line.starts_with("PLUGIN    TABLE     ROWS  BYTES ")),
        "{listed}"
    );
    assert!(lines.next().is_some_and(|line| line.starts_with("sessions  by_user   250 ")), "{listed}");
    assert!(lines.next().is_some_and(|line| line.starts_with("sessions  sessions  1000 ")), "{listed}");
    assert_eq!(lines.next(), None, "{listed}");

    let paused = done(&daemon, &["tables", "pause", "sessions"]);
    assert_eq!(paused, "the sweep of sessions is paused\n");
    daemon.deploy(&artifacts::plugin("sessions-v2"), "sessions@2.0.0");
    // Until 2.0.0 is committed, the sweep of 1.0.0 is what there is, and over.
    let all_paused = || done(&daemon, &["tables", "sessions"]).matches(" paused ").count() == 2;
    wait_until("the sweep of 2.0.0 being held", all_paused);
    let table = sessions(&daemon);
    assert_eq!(table["schema"], 2);
    assert_eq!((&table["plugin"], &table["durability"]), (&"sessions".into(), &"memory".into()));
    assert_eq!(table["sweep_paused"], true);
    assert_ne!(table["sweep"]["done"], true);

    let resumed = done(&daemon, &["tables", "resume", "sessions"]);
    assert_eq!(resumed, "the sweep of sessions is not paused\n");
    wait_until("the end of the sweep", || sessions(&daemon)["sweep"]["done"] == true);
    let table = sessions(&daemon);
    let sweep = &table["sweep"];
    assert_eq!(
        (&sweep["rows_done"], &sweep["rows_left"], &sweep["failed"]),
        (&1000.into(), &0.into(), &0.into())
    );
    assert_eq!(table["sweep_paused"], false);
    let swept = r#""event":"table_swept","table":"sessions","rows":1000,"#;
    wait_until("the event of it", || done(&daemon, &["events"]).contains(swept));
}

#[test]
fn a_table_that_has_what_the_configuration_allows_refuses_more_and_says_what_to_do() {
    for (config, code, next) in [
        ("table-rows-max = 2\n", "table.rows_max", "raise rows_max"),
        ("table-bytes-max = 280\n", "table.bytes_max", "raise bytes_max"),
    ] {
        let daemon = with_sessions(config, 2);
        let open = "POST /v1/plugins/sessions/call/open";
        let refused = ask(&daemon.socket(), open, "", r#"{"token": "one-more", "user": "ada"}"#);
        let problem = refused.json();
        assert_eq!((refused.status, &problem["code"]), (422, &"call.plugin".into()), "{problem}");
        assert_eq!(
            (&problem["plugin_code"], &problem["blame"]),
            (&code.into(), &"operator".into()),
            "{problem}"
        );
        assert!(problem["next"].as_str().is_some_and(|step| step.starts_with(next)), "{problem}");
        assert_eq!(done(&daemon, &["call", "sessions", "touch", "--data", "t1"]), "1");
        assert_eq!(sessions(&daemon)["rows"], 2);
    }
}

#[test]
fn what_cannot_be_asked_of_tables_is_refused_with_a_code() {
    let daemon = Daemon::start();
    for (line, status, code) in [
        ("GET /v1/plugins/nobody/tables", 404, "call.unknown_plugin"),
        ("GET /v1/plugins/no%2Fbody/tables", 400, "request.invalid"),
        ("POST /v1/plugins/nobody/tables/pause", 404, "call.unknown_plugin"),
        ("POST /v1/plugins/nobody/tables/resume", 404, "call.unknown_plugin"),
        ("GET /v1/plugins/nobody/tables/pause", 405, "request.wrong_method"),
        ("POST /v1/tables", 405, "request.wrong_method"),
    ] {
        let answer = ask(&daemon.socket(), line, "", "");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{line}");
    }
    let none = ask(&daemon.socket(), "GET /v1/tables", "", "");
    assert_eq!((none.status, none.body.as_str()), (200, "[]"));
    let refused = daemon.verb(&["tables", "pause", "nobody"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).starts_with("error[call.unknown_plugin]: "), "{refused:?}");
    // A plugin must be named, and what is only for showing does not go with it.
    for words in [&["tables", "pause"][..], &["tables", "--watch", "pause", "sessions"]] {
        assert_eq!(daemon.verb(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_plugin_without_tables_has_none_and_can_be_paused_before_it_has() {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::plugin("limiter-v1"), "limiter@1.0.0");
    assert_eq!(done(&daemon, &["tables", "limiter", "-o", "json"]), "[]\n");
    done(&daemon, &["tables", "pause", "limiter"]);
    assert_eq!(daemon.status_of("limiter", "sweep_paused"), true);
    done(&daemon, &["tables", "resume", "limiter"]);
    assert_eq!(daemon.status_of("limiter", "sweep_paused"), false);
}
