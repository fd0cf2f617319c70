//! What operators read when something cannot be done.

use crate::process::{Daemon, ended, home, log, replug, run, text};
use replug_tests::{artifacts, harness::wait_until};
use std::fs;

#[test]
fn refusals_have_a_code_blame_a_next_step_and_an_exit_code() {
    let daemon = Daemon::start();
    let unknown = daemon.verb(&["call", "nobody", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    let expected = "error[call.unknown_plugin]: there is no plugin \"nobody\"\n  \
                    blame: caller\n  \
                    next:  check the name against the list of plugins\n";
    assert_eq!(text(&unknown.stderr), expected);
    let no_file = daemon.verb(&["call", "nobody", "x", "--data", "@/nonexistent"]);
    assert_eq!(no_file.status.code(), Some(1));
    let error = text(&no_file.stderr);
    assert!(error.starts_with("error[request.invalid]: cannot read the body from /nonexistent\n"), "{error}");
    assert!(error.contains("\n  why:   No such file"), "{error}");
    assert_eq!(daemon.verb(&["call"]).status.code(), Some(2));
}

#[test]
fn a_host_that_does_not_answer_is_unreachable_and_the_error_says_why() {
    let nowhere = replug().args(["status", "--data-dir", "/nonexistent"]).output().expect("runs");
    assert_eq!(nowhere.status.code(), Some(3));
    let error = text(&nowhere.stderr);
    assert!(
        error.starts_with("error[host.unreachable]: no host answers at /nonexistent/replug.sock\n"),
        "{error}"
    );
    assert!(error.contains("  why:   No such file or directory"), "{error}");
    assert!(error.contains("`replug run`"), "{error}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place_and_the_next_step() {
    let wrong = [
        ("removal = \"keep\"\ngate-timout-ms = 5\n", "replug.toml, line 2, column 1: unknown field"),
        ("\ngate-timeout-ms = \"5\"\n", "replug.toml, line 2, column 19: invalid type"),
        ("removal = \"burn\"\n", "replug.toml, line 1, column 11: unknown variant"),
        ("[plugin\n", "replug.toml, line 1, column 8: "),
    ];
    for (config, place) in wrong {
        let home = home();
        fs::write(home.path().join("replug.toml"), config).expect("writes");
        let mut process = run(home.path()).spawn().expect("starts");
        assert_eq!(ended(&mut process).code(), Some(1));
        let error = log(home.path());
        assert!(error.starts_with("error[config.invalid]: ") && error.contains(place), "{error}");
        assert!(
            error.contains("\n  blame: operator\n  next:  correct the file at the named place\n"),
            "{error}"
        );
        assert!(!home.path().join("data").exists(), "nothing was started");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_refused() {
    let home = home();
    let mut process = run(home.path()).arg("--config").arg("/nonexistent.toml").spawn().expect("starts");
    assert_eq!(ended(&mut process).code(), Some(1));
    let error = log(home.path());
    assert!(
        error.starts_with(
            "error[config.invalid]: cannot read the configuration file /nonexistent.toml\n  why:   No such"
        ),
        "{error}"
    );
}

#[test]
fn a_host_without_plugin_directory_says_how_to_name_one() {
    let refused = replug().arg("run").output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("error[config.invalid]") && error.contains("--plugins DIR"), "{error}");
}

/// A daemon on which limiter 1.0.0 serves, and then other bytes of that version
/// are dropped, beside its file or over it; and what served before.
fn after_the_same_version_came_again(config: &str, name: &str) -> (Daemon, serde_json::Value) {
    let daemon = Daemon::with(config);
    let library = artifacts::plugin("limiter-v1");
    daemon.deploy(&library, "limiter@1.0.0");
    let before = daemon.status_of("limiter", "active");
    let other = artifacts::with_other_bytes(&library, daemon.home().join("other-bytes"));
    daemon.drop_file(&other, name);
    (daemon, before)
}

#[test]
fn another_file_of_the_version_that_serves_is_refused_and_that_version_serves_on() {
    for name in ["beside.so", "limiter-1.0.0.so"] {
        let (daemon, before) = after_the_same_version_came_again("", name);
        let refused = || {
            let events = text(&daemon.verb(&["events"]).stdout);
            events.lines().find(|line| line.contains("deploy.same_version")).map(str::to_owned)
        };
        wait_until("the refusal", || refused().is_some());
        let event: serde_json::Value = serde_json::from_str(&refused().expect("just seen")).expect("JSON");
        assert_eq!(event["event"], "refused");
        assert!(event["path"].as_str().is_some_and(|path| path.ends_with(name)), "{event}");
        assert!(event["next"].as_str().is_some_and(|next| next.contains("a new version")), "{event}");
        let taken = daemon.verb(&["call", "limiter", "take", "--data", r#"{"key":"ada"}"#]);
        assert!(taken.status.success(), "{taken:?}");
        assert_eq!(daemon.status_of("limiter", "active"), before, "{name}");
    }
}

#[test]
fn another_file_of_the_version_that_serves_takes_over_where_the_configuration_says_so() {
    let (daemon, before) = after_the_same_version_came_again("same-version = \"replace\"\n", "beside.so");
    wait_until("the other bytes serving", || {
        let active = daemon.status_of("limiter", "active");
        active.as_str().is_some_and(|id| id.starts_with("limiter@1.0.0+")) && active != before
    });
}
