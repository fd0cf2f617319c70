//! Two versions at once, and the way back: trials, routing, probation.

use replug_host::{
    CallOptions, HostError, PinnedCaller, PinnedTo, Plugin, PluginState, PluginStatus,
    dispatch::{Arm, Share},
    event::EventKind,
    failure::Failure,
    id::PluginName,
};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is},
    load::Load,
};
use serde_json::json;
use std::time::Duration;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);
/// Only 2.0.0 makes a table of it.
const TEXT: &[u8] = b"|a|b|\n|-|-|\n|1|2|\n";

fn name() -> PluginName {
    "markdown".parse().expect("a name")
}

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).expect("at most the whole")
}

fn status(harness: &Harness) -> PluginStatus {
    harness.host.status().plugin("markdown").expect("is known").clone()
}

/// Whether 2.0.0 answered.
fn is_second(markdown: &Plugin, options: &CallOptions) -> bool {
    let reply = markdown.call_with("render", TEXT, options).expect("no call fails");
    reply.text().expect("text").contains("<table>")
}

/// 1.0.0 serves; 2.0.0 is there and not wanted.
fn first_of_two(harness: &mut Harness) {
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.activate("markdown", "1.0.0").expect("serves");
    harness.drop_file(How::Rename, &artifacts::plugin("markdown-v2"), "markdown-2.0.0.so");
    harness.expect("passing over 2.0.0", |event| matches!(event.kind, EventKind::Superseded { .. }));
}

fn try_second(harness: &Harness, basis_points: u16) {
    let second = "2.0.0".parse().expect("a version");
    let tried = harness.host.try_version(&name(), second, share(basis_points)).wait();
    assert_eq!(tried.expect("it can be tried").version.major, 2);
}

fn second_of(markdown: &Plugin, calls: usize, options: &CallOptions) -> usize {
    (0..calls).filter(|_| is_second(markdown, options)).count()
}

#[test]
fn a_version_that_is_tried_gets_its_exact_share_and_then_all() {
    let mut harness = Harness::new();
    first_of_two(&mut harness);
    let markdown = harness.plugin("markdown");
    let plain = CallOptions::default();
    try_second(&harness, 500);
    assert_eq!(second_of(&markdown, 200, &plain), 10);
    let seen = status(&harness);
    assert_eq!(seen.state, PluginState::Split);
    assert!(seen.active.is_some_and(|id| id.starts_with("markdown@1.0.0")));
    let trial = seen.trial.expect("one is tried");
    assert_eq!((trial.share_basis_points, trial.calls, trial.errors), (500, 10, 0));
    assert_eq!((trial.in_flight, trial.leases.as_slice()), (0, &[][..]));

    try_second(&harness, 5_000);
    assert_eq!(second_of(&markdown, 200, &plain), 100);
    harness.host.promote(&name()).wait().expect("is tried");
    assert_eq!(second_of(&markdown, 10, &plain), 10);
    harness.unloaded("markdown@1.0.0");
    let seen = status(&harness);
    assert_eq!((seen.state, seen.trial), (PluginState::Active, None));
    // What an operator had chosen moved with the promotion.
    assert_eq!(seen.pinned.as_deref(), Some("2.0.0"));
    let (events, _home) = harness.shutdown();
    let names: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
    for expected in ["trial_begun", "trial_share", "promoted"] {
        assert!(names.contains(&expected), "{expected} in {names:?}");
    }
}

#[test]
fn a_key_stays_with_its_version_and_a_pinned_caller_with_its_own() {
    let mut harness = Harness::new();
    first_of_two(&mut harness);
    let markdown = harness.plugin("markdown");
    try_second(&harness, 2_500);
    let keyed = |number: usize| CallOptions::default().sticky_key(format!("user{number}"));
    let early: Vec<bool> = (0..200).map(|number| is_second(&markdown, &keyed(number))).collect();
    let again: Vec<bool> = (0..200).map(|number| is_second(&markdown, &keyed(number))).collect();
    assert_eq!(early, again);
    let taken = early.iter().filter(|second| **second).count();
    assert!((20..=80).contains(&taken), "{taken} of 200 keys at a quarter");
    try_second(&harness, 7_500);
    for (number, was_second) in early.iter().enumerate() {
        assert!(!was_second || is_second(&markdown, &keyed(number)), "user{number} went back");
    }

    let pins = [("tester".to_owned(), Arm::Challenger), ("bank".to_owned(), Arm::Baseline)];
    harness.host.pin_callers(&name(), pins).expect("the plugin is there");
    assert_eq!(second_of(&markdown, 20, &keyed(0).caller("tester")), 20);
    assert_eq!(second_of(&markdown, 20, &keyed(0).caller("bank")), 0);
    let pinned = |caller: &str, to| PinnedCaller { caller: caller.to_owned(), to };
    assert_eq!(
        status(&harness).pinned_callers,
        [pinned("bank", PinnedTo::Active), pinned("tester", PinnedTo::Trial)]
    );
}

#[test]
fn rolling_back_a_trial_sends_every_call_to_the_version_before() {
    let mut harness = Harness::new();
    first_of_two(&mut harness);
    let markdown = harness.plugin("markdown");
    let caller = markdown.clone();
    let load = Load::start(3, move |_, _, _| caller.call("render", TEXT).map(drop));
    for _ in 0..5 {
        try_second(&harness, 5_000);
        load.wait_for(500);
        let back = harness.host.roll_back(&name(), None).expect("is tried");
        assert_eq!((back.from.version.major, back.to.version.major), (2, 1));
        assert_eq!(second_of(&markdown, 10, &CallOptions::default()), 0);
        harness.unloaded("markdown@2.0.0");
    }
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    let seen = status(&harness);
    assert!(seen.versions.iter().any(|version| version.id.starts_with("markdown@2.0.0") && version.refused));
}

/// Once, who served and who was tried was read in several steps, between which it
/// could change: one version was seen in two places, or a trial of nothing.
#[test]
fn status_is_of_one_moment_while_trials_come_and_go() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    first_of_two(&mut harness);
    let harness = &harness;
    std::thread::scope(|scope| {
        let trials = scope.spawn(|| {
            for _ in 0..10 {
                try_second(harness, 5_000);
                harness.host.roll_back(&name(), None).expect("is tried");
                try_second(harness, 5_000);
                harness.host.promote(&name()).wait().expect("is tried");
                harness.host.roll_back(&name(), None).expect("1.0.0 is kept ready");
            }
        });
        while !trials.is_finished() {
            let seen = status(harness);
            let tried = seen.trial.as_ref().map(|trial| trial.id.clone());
            assert_eq!(seen.state == PluginState::Split, tried.is_some(), "{seen:?}");
            assert!(seen.active.is_some(), "{seen:?}");
            assert!(seen.active != tried && seen.active != seen.standby, "{seen:?}");
        }
    });
}

#[test]
fn the_version_before_is_kept_ready_and_serves_again_at_once() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    let markdown = harness.plugin("markdown");
    assert!(status(&harness).standby.is_some_and(|id| id.starts_with("markdown@1.0.0")));
    let caller = markdown.clone();
    let load = Load::start(3, move |_, _, _| caller.call("render", TEXT).map(drop));
    load.wait_for(500);
    let back = harness.host.roll_back(&name(), None).expect("1.0.0 is kept ready");
    assert_eq!((back.from.version.major, back.to.version.major), (2, 1));
    assert_eq!(second_of(&markdown, 10, &CallOptions::default()), 0);
    harness.unloaded("markdown@2.0.0");
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    // Its file is still there, and the highest: it was left for a reason. The
    // loop has taken its turn when it has answered.
    harness.host.save_state().wait().expect("the host runs");
    let seen = status(&harness);
    assert!(seen.active.is_some_and(|id| id.starts_with("markdown@1.0.0")));
    assert_eq!(seen.standby, None);
    let nothing = harness.host.roll_back(&name(), None).expect_err("nothing is left to go back to");
    assert_eq!(nothing.code().as_str(), "rollback.not_warm");

    // An operator may want it all the same.
    harness.activate("markdown", "2.0.0").expect("it serves again");
    assert!(status(&harness).standby.is_some());
}

#[test]
fn a_commit_or_the_end_of_the_probation_unloads_the_version_before() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    assert_eq!(harness.host.commit(&name()).wait().expect("on probation").version.major, 2);
    harness.unloaded("markdown@1.0.0");
    let again = harness.host.commit(&name()).wait().expect_err("committed already");
    assert_eq!(again.code().as_str(), "rollback.not_warm");

    let mut harness = Harness::with(|options| options.probation(Duration::from_millis(50)));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.expect("the commit", |event| {
        matches!(event.kind, EventKind::Committed) && is(event, "markdown@2.0.0")
    });
    harness.unloaded("markdown@1.0.0");
}

#[test]
fn a_plugin_leaves_with_its_trial_and_with_what_is_kept_ready() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    first_of_two(&mut harness);
    try_second(&harness, 5_000);
    harness.host.promote(&name()).wait().expect("is tried");
    assert!(status(&harness).standby.is_some());
    let first = "1.0.0".parse().expect("a version");
    harness.host.try_version(&name(), first, share(5_000)).wait().expect("it can be tried again");
    let (events, _home) = harness.shutdown();
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::TrialEnded)));
    let unloads = events.iter().filter(|event| matches!(event.kind, EventKind::Unloaded { .. })).count();
    let published = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Published { .. } | EventKind::TrialBegun { .. }));
    assert_eq!(unloads, published.count(), "{events:?}");
}

#[test]
fn versions_with_state_are_not_tried_beside_each_other() {
    let mut harness = Harness::with(|options| options.config("limiter", replug_tests::load::unlimited()));
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    harness.activate("limiter", "1.0.0").expect("serves");
    harness.drop_file(How::Rename, &artifacts::plugin("limiter-v2"), "limiter-2.0.0.so");
    harness.expect("passing over 2.0.0", |event| matches!(event.kind, EventKind::Superseded { .. }));
    let limiter = "limiter".parse().expect("a name");
    let refused = harness.host.try_version(&limiter, "2.0.0".parse().expect("a version"), share(500)).wait();
    match refused.expect_err("both would have the state") {
        HostError::Failed(report) => assert_eq!(report.code, "route.shared_state"),
        other => panic!("{other}"),
    }
    // Nothing of it ran, and as the one version it may serve.
    harness.activate("limiter", "2.0.0").expect("takes the state over");
}

#[test]
fn what_cannot_be_tried_or_promoted_is_refused_with_the_reason() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    let try_ = |version: &str| {
        harness.host.try_version(&name(), version.parse().expect("a version"), share(1)).wait()
    };
    let code = |result: Result<_, HostError>| result.map(|_| ()).expect_err("refused").code().as_str();
    assert_eq!(code(try_("1.0.0").map(|_| ())), "route.not_split");
    assert_eq!(code(try_("7.0.0").map(|_| ())), "deploy.unknown_version");
    assert_eq!(code(harness.host.promote(&name()).wait().map(|_| ())), "route.not_split");
    assert_eq!(code(harness.host.roll_back(&name(), None).map(|_| ())), "rollback.not_warm");
    let nobody = "nobody".parse().expect("a name");
    assert_eq!(code(harness.host.roll_back(&nobody, None).map(|_| ())), "call.unknown_plugin");
    assert_eq!(code(harness.host.pin_callers(&nobody, [])), "call.unknown_plugin");
}

/// Once, what was warm could not be gone back to while another version's hooks
/// ran, or any plugin's.
#[test]
fn going_back_waits_for_no_hook() {
    let config = json!({ "only_version": "1.0.0", "faults": { "prepare": { "hang": { "ms": 3_000 } } } });
    let mut harness = Harness::with(|options| options.probation(LONG).config("hostile", config));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v1"), "hostile-1.0.0.so");
    harness.expect("the deployment of hostile", |event| {
        matches!(event.kind, EventKind::Deploying { .. }) && is(event, "hostile@1.0.0")
    });
    harness.host.roll_back(&name(), None).expect("1.0.0 is kept ready");
    assert_eq!(second_of(&harness.plugin("markdown"), 10, &CallOptions::default()), 0);
    // Nobody has lost sight of the version that was left.
    assert!(status(&harness).unloading.iter().any(|unloading| unloading.id.starts_with("markdown@2.0.0")));
    // The loop was in the hook all the while.
    let event = harness.expect("hostile or the end of 2.0.0", |event| {
        matches!(event.kind, EventKind::Published { .. }) && is(event, "hostile@1.0.0")
            || matches!(event.kind, EventKind::Unloaded { .. })
    });
    assert!(is(&event, "hostile@1.0.0"), "{event:?}");
    harness.unloaded("markdown@2.0.0");
}

#[test]
fn of_two_who_go_back_from_one_version_only_one_does() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    let second = harness.plugin("markdown").version().expect("serves");
    let back = harness.host.roll_back(&name(), Some(&second)).expect("it came last");
    assert_eq!(back.from, second);
    let again = harness.host.roll_back(&name(), Some(&second)).expect_err("it serves no more");
    assert_eq!(again.code().as_str(), "rollback.not_warm");
    assert!(again.to_string().contains("markdown@1.0.0"), "{again}");
}

/// Once, other files than the one that was left took over at once, down to the
/// retirement of the plugin.
#[test]
fn what_was_gone_back_to_stays_until_a_new_file_or_a_choice() {
    let mut harness = Harness::with(|options| options.probation(LONG));
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown.so", "markdown@1.0.0");
    harness.drop_file(How::Rename, &artifacts::plugin("markdown-v2"), "markdown.so");
    harness.published("markdown@2.0.0");
    harness.host.roll_back(&name(), None).expect("1.0.0 is kept ready");
    harness.delete("markdown.so");
    // In whatever order.
    let (mut gone, mut unloaded) = (false, false);
    harness.expect("the end of the file and of 2.0.0", |event| {
        gone |= matches!(event.kind, EventKind::Gone { .. });
        unloaded |= matches!(event.kind, EventKind::Unloaded { .. }) && is(event, "markdown@2.0.0");
        gone && unloaded
    });
    // A few more turns of the loop.
    harness.deploy(&artifacts::plugin("threads-v1"), "threads.so", "threads@1.0.0");
    harness.host.save_state().wait().expect("the host runs");
    assert!(status(&harness).active.is_some_and(|id| id.starts_with("markdown@1.0.0")));
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
}

#[test]
fn a_choice_waits_for_the_end_of_a_trial_and_a_file_too() {
    let mut harness = Harness::new();
    first_of_two(&mut harness);
    try_second(&harness, 5_000);
    let code = harness.activate("markdown", "2.0.0").expect_err("it is being tried").code;
    assert_eq!(code, "route.split");
    let third = harness.host.try_version(&name(), "1.0.0".parse().expect("a version"), share(1)).wait();
    assert_eq!(third.expect_err("another is tried").code().as_str(), "route.split");
    harness.host.roll_back(&name(), None).expect("is tried");
    harness.activate("markdown", "2.0.0").expect("nothing is tried any more");
}

#[test]
fn a_lower_version_that_is_promoted_stays() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.drop_file(How::Rename, &artifacts::plugin("markdown-v1"), "markdown-1.0.0.so");
    harness.expect("passing over 1.0.0", |event| matches!(event.kind, EventKind::Superseded { .. }));
    harness.host.try_version(&name(), "1.0.0".parse().expect("a version"), share(100)).wait().expect("tried");
    harness.host.promote(&name()).wait().expect("is tried");
    harness.unloaded("markdown@2.0.0");
    let seen = status(&harness);
    assert!(seen.active.is_some_and(|id| id.starts_with("markdown@1.0.0")));
    assert_eq!(seen.pinned.as_deref(), Some("1.0.0"));
}

#[test]
fn nothing_is_kept_ready_behind_a_version_with_state() {
    let mut harness =
        Harness::with(|options| options.probation(LONG).config("limiter", replug_tests::load::unlimited()));
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    harness.deploy(&artifacts::plugin("limiter-v2"), "limiter-2.0.0.so", "limiter@2.0.0");
    harness.unloaded("limiter@1.0.0");
    let limiter = "limiter".parse().expect("a name");
    let refused = harness.host.roll_back(&limiter, None).expect_err("its state went on");
    assert_eq!(refused.code().as_str(), "rollback.not_warm");
}
