//! How a host ends: in order, cut short, or not in order.

use crate::process::{Daemon, ended, text};
use replug_tests::{artifacts, harness::wait_until};
use std::{fs, io::Read, process::Child};

/// A daemon with a call in flight that lasts until the file `go` is there.
fn with_a_call_in_flight(config: &str) -> (Daemon, Child) {
    let daemon = Daemon::with(config);
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    assert!(daemon.verb(&["call", "hostile", "add", "--data", "7"]).status.success());
    let until = format!(r#"{{"until_file":"{}"}}"#, daemon.home().join("go").display());
    let call = daemon.spawn(&["call", "hostile", "slow", "--data", &until]);
    wait_until("the call running", || daemon.status_of("hostile", "in_flight") == 1);
    (daemon, call)
}

fn wait_until_it_drains(daemon: &Daemon) {
    wait_until("the host draining", || daemon.log().contains("a second signal ends at once"));
}

#[test]
fn calls_in_flight_at_a_signal_are_answered_and_their_state_is_saved() {
    let (mut daemon, mut call) = with_a_call_in_flight("shutdown-timeout-ms = 60000\n");
    daemon.signal();
    wait_until_it_drains(&daemon);
    fs::write(daemon.home().join("go"), "").expect("writes");
    assert_eq!(ended(&mut call).code(), Some(0));
    let mut answer = String::new();
    call.stdout.take().expect("piped").read_to_string(&mut answer).expect("reads");
    assert_eq!(answer, "waited");
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.log());
    daemon.start_again();
    wait_until("the state being back", || daemon.verb(&["call", "hostile", "count"]).stdout == b"7");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut daemon, mut call) = with_a_call_in_flight("shutdown-timeout-ms = 600000\n");
    daemon.signal();
    wait_until_it_drains(&daemon);
    daemon.signal();
    assert_eq!(daemon.ended(), Some(1));
    assert_eq!(ended(&mut call).code(), Some(3), "nobody answers it");
}

#[test]
fn an_end_with_a_call_that_does_not_return_is_no_success() {
    let (mut daemon, mut call) = with_a_call_in_flight("shutdown-timeout-ms = 200\n");
    assert_eq!(daemon.terminate(), Some(1));
    let error = daemon.log();
    assert!(error.contains("error[host.unclean_end]: "), "{error}");
    assert!(error.contains("hostile@1.0.0") && error.contains("1 calls"), "{error}");
    assert_eq!(ended(&mut call).code(), Some(3), "nobody answers it");
}

#[test]
fn an_end_without_saved_state_is_no_success() {
    let mut daemon = Daemon::with("[plugin.hostile]\nfaults.export.fail = \"no way out\"\n");
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    assert_eq!(daemon.terminate(), Some(1));
    let error = daemon.log();
    assert!(error.contains("error[host.unclean_end]: ") && error.contains("no way out"), "{error}");
}

#[test]
fn what_was_saved_on_the_interval_is_there_after_a_kill() {
    let mut daemon = Daemon::with("snapshot-interval-ms = 50\n");
    daemon.deploy(&artifacts::plugin("limiter-v1"), "limiter@1.0.0");
    let take = ["call", "limiter", "take", "--data", r#"{"key":"ada"}"#];
    for _ in 0..7 {
        assert!(daemon.verb(&take).status.success());
    }
    let saved = |daemon: &Daemon| text(&daemon.verb(&["events"]).stdout).matches("state_saved").count();
    let before = saved(&daemon);
    // The first of the two may have begun before the last call.
    wait_until("two snapshots", || saved(&daemon) >= before + 2);
    daemon.kill();
    daemon.start_again();
    wait_until("the state being back", || {
        text(&daemon.verb(&["call", "limiter", "count", "--data", "ada"]).stdout) == "7"
    });
}
