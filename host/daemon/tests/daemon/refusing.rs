//! What operators read when something cannot be done.

use crate::process::{Daemon, ended, home, log, replug, run, text};
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
    assert!(text(&no_file.stderr).contains("\n  why:   No such file"), "{no_file:?}");
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
        error.contains("error[config.invalid]: cannot read /nonexistent.toml\n  why:   No such"),
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
