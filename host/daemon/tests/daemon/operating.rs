//! A day of an operator.

use crate::process::{Daemon, replug, text};
use replug_tests::{artifacts, harness::wait_until};
use std::path::Path;

#[test]
fn an_operator_drops_calls_activates_and_ends_with_saved_state() {
    let mut daemon = Daemon::start();
    daemon.drop_file(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so");
    daemon.drop_file(&artifacts::plugin("limiter-v2"), "limiter-2.0.0.so");
    let take = ["call", "limiter", "take", "--data", r#"{"key":"ada"}"#];
    wait_until("both being listed", || text(&daemon.verb(&["list"]).stdout).matches("limiter@").count() == 2);
    wait_until("2.0.0 serving", || text(&daemon.verb(&["status"]).stdout).contains("limiter@2.0.0"));
    assert!(daemon.verb(&take).status.success());
    let activated = daemon.verb(&["activate", "limiter", "1.0.0"]);
    assert!(text(&activated.stdout).starts_with("limiter@1.0.0+"), "{activated:?}");
    assert!(daemon.verb(&take).status.success());
    assert_eq!(text(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]).stdout), "2");
    let status = text(&daemon.verb(&["status"]).stdout);
    assert!(status.starts_with("all right: "), "{status}");
    assert!(text(&daemon.verb(&["events"]).stdout).contains(r#""event":"state_handed_over""#));
    assert_eq!(daemon.terminate(), Some(0));
    daemon.start_again();
    wait_until("the state being back", || {
        text(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]).stdout) == "2"
    });
}

#[test]
fn inspect_prints_the_manifest_without_running_the_file() {
    let library = artifacts::hostile("hostile-constructor");
    let table = replug().arg("inspect").arg(&library).output().expect("runs");
    assert!(table.status.success(), "its constructor would have aborted: {table:?}");
    assert!(text(&table.stdout).contains("constructor"));
    let json = replug().arg("inspect").arg(&library).args(["-o", "json"]).output().expect("runs");
    let manifest: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(manifest["name"], "constructor");
    assert_eq!(manifest["version"], "1.0.0");
    let text_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let refused = replug().arg("inspect").arg(text_file).output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("error[inspect.not_elf]"));
}

#[test]
fn the_log_names_the_plugin_of_an_event() {
    let daemon = Daemon::start();
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    wait_until("the event in the log", || {
        daemon.log().lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let fields = &line["fields"];
            fields["event"] == "published" && fields["plugin"] == "hostile" && line["level"] == "INFO"
        })
    });
}
