//! Versions that replace each other under load.

use replug_host::event::EventKind;
use replug_tests::{
    artifacts,
    harness::Harness,
    load::{Load, unlimited},
};
use std::fs;

#[test]
fn a_stateless_swap_under_load_fails_no_call() {
    let mut harness = Harness::new();
    let (first, second) = (artifacts::plugin("markdown-v1"), artifacts::plugin("markdown-v2"));
    harness.deploy(&first, "markdown-1.0.0.so", "markdown@1.0.0");
    let markdown = harness.plugin("markdown");
    let load = Load::start(4, move |_, _, _| markdown.call("render", b"# *hi* [a](b)").map(drop));
    for _ in 0..5 {
        load.wait_for(200);
        harness.deploy(&second, "markdown-2.0.0.so", "markdown@2.0.0");
        load.wait_for(200);
        harness.delete("markdown-2.0.0.so");
        harness.published("markdown@1.0.0");
    }
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    let (events, _home) = harness.shutdown();
    let count = |name: &str| events.iter().filter(|event| event.kind.name() == name).count();
    assert_eq!(count("published"), 11);
    assert_eq!(count("unloaded"), 11, "every version that served is proven to be gone");
}

#[test]
fn writes_during_migration_are_not_lost_up_and_down_again() {
    let mut harness = Harness::with(|options| options.config("limiter", unlimited()));
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    let limiter = harness.plugin("limiter");
    let load = Load::takes(4, &limiter);
    load.wait_for(500);
    harness.deploy(&artifacts::plugin("limiter-v2"), "limiter-2.0.0.so", "limiter@2.0.0");
    load.wait_for(500);
    harness.deploy(&artifacts::plugin("limiter-v3"), "limiter-3.0.0.so", "limiter@3.0.0");
    load.wait_for(500);
    for version in ["2.0.0", "1.0.0", "3.0.0", "1.0.0", "2.0.0"] {
        harness.activate("limiter", version).expect("steps");
        load.wait_for(500);
    }
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    assert!(log.takes.values().sum::<u64>() > 3000);
    assert_eq!(log.lost_takes(&limiter), 0);
    harness.shutdown();
}

#[test]
fn state_survives_a_restart_and_a_newer_version_takes_it_up() {
    let mut harness = Harness::with(|options| options.config("limiter", unlimited()));
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    for _ in 0..7 {
        harness.plugin("limiter").call("take", br#"{"key":"ada"}"#).expect("takes");
    }
    let (events, home) = harness.shutdown();
    assert!(events.iter().any(|event| event.kind.name() == "state_saved"));
    fs::copy(artifacts::plugin("limiter-v3"), home.path().join("plugins/limiter-3.0.0.so")).expect("copies");
    let mut harness = Harness::again(home, |options| options.config("limiter", unlimited()));
    harness.published("limiter@3.0.0");
    let count = harness.plugin("limiter").call("count", b"ada").expect("counts");
    assert_eq!(count.text(), Ok("7"));
}

#[test]
fn a_chosen_version_stays_until_the_choice_is_taken_back() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.activate("markdown", "1.0.0").expect("serves already");
    harness.drop_file(
        replug_tests::harness::How::Rename,
        &artifacts::plugin("markdown-v2"),
        "markdown-2.0.0.so",
    );
    harness.expect("recording", |event| matches!(event.kind, EventKind::Superseded { .. }));
    assert_eq!(harness.plugin("markdown").version().expect("serves").version.to_string(), "1.0.0");
    let name = "markdown".parse().expect("a name");
    let active = harness.host.activate(&name, None).wait().expect("activates");
    assert_eq!(active.version.to_string(), "2.0.0");
    let failure = harness.activate("markdown", "7.0.0").expect_err("is not there");
    assert_eq!(failure.code, "deploy.unknown_version");
}

#[test]
fn two_hosts_in_one_process_do_not_know_of_each_other() {
    let (mut one, mut two) = (Harness::new(), Harness::new());
    one.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    two.deploy(&artifacts::plugin("markdown-v2"), "markdown.so", "markdown@2.0.0");
    one.shutdown();
    assert_eq!(two.plugin("markdown").version().expect("serves").version.to_string(), "2.0.0");
    two.shutdown();
}
