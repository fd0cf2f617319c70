//! Rows that stay in the host while versions come, serve side by side, and go
//! back: the sample plugin `sessions` in three versions.
//!
//! long: one test for each promise that operators are made of tables.

use replug_host::{CallOptions, HostBuilder, Plugin, dispatch::Share, event::EventKind, failure::Failure};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    sessions::{
        audit, call, deploy, deploy_example, kept_by_the_process, name, on_probation, open, session, swept,
        table,
    },
};
use serde_json::json;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Drops a version and chooses an earlier one.
fn stay_with(harness: &mut Harness, major: u32, later: u32) {
    deploy(harness, major);
    harness.activate("sessions", &format!("{major}.0.0")).expect("serves");
    let library = artifacts::plugin(&format!("sessions-v{later}"));
    harness.drop_file(How::Rename, &library, &format!("sessions-{later}.0.0.so"));
    harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));
}

#[test]
fn rows_are_read_by_each_version_in_its_own_shape_and_swept_into_it() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 2000}"#);
    for _ in 0..3 {
        call(&sessions, "touch", "t7");
    }
    assert_eq!(session(&sessions, "t7")["hits"], 3);

    deploy(&mut harness, 2);
    let seven = session(&sessions, "t7");
    assert_eq!((&seven["hits"], &seven["last_used_ms"]), (&json!(3), &seven["opened_ms"]));
    let table = swept(&harness, 2);
    assert_eq!((table.rows, table.sweep.map(|sweep| sweep.failed)), (2000, Some(0)));

    deploy(&mut harness, 3);
    assert_eq!(session(&sessions, "t7")["visits"], 3);
    swept(&harness, 3);
    assert_eq!(audit(&sessions), (2000, 3, 0));
    assert_eq!(call(&sessions, "of", "u1"), r#"["t4","t5","t6","t7"]"#);
}

#[test]
fn a_rollback_keeps_what_the_newer_version_wrote() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    open(&sessions, "old", "ada");
    deploy(&mut harness, 2);
    call(&sessions, "touch", "old");
    open(&sessions, "new", "ada");
    call(&sessions, "touch", "new");
    call(&sessions, "touch", "new");
    assert_eq!(session(&sessions, "new")["hits"], 2);

    harness.host.roll_back(&name(), None).expect("goes back");
    assert_eq!(session(&sessions, "old")["hits"], 1);
    assert_eq!(session(&sessions, "new")["hits"], 2);
    assert!(session(&sessions, "new").get("last_used_ms").is_none(), "it is in the shape of 1.0.0");
    assert_eq!(call(&sessions, "of", "ada"), r#"["old","new"]"#);
    harness.unloaded("sessions@2.0.0");
    swept(&harness, 1);
    assert_eq!(audit(&sessions), (2, 3, 0));
}

#[test]
fn a_plugin_goes_back_over_two_versions_after_they_were_committed() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    deploy(&mut harness, 2);
    swept(&harness, 2);
    deploy(&mut harness, 3);
    swept(&harness, 3);
    call(&sessions, "touch", "t1");
    open(&sessions, "late", "bob");

    harness.activate("sessions", "1.0.0").expect("goes back to the first");
    assert_eq!(session(&sessions, "t1")["hits"], 1);
    assert_eq!(session(&sessions, "late")["user"], "bob");
    swept(&harness, 1);
    assert_eq!(audit(&sessions), (1001, 1, 0));
    // And forth again.
    harness.activate("sessions", "3.0.0").expect("goes forth");
    swept(&harness, 3);
    assert_eq!(session(&sessions, "t1")["visits"], 1);
    assert_eq!(audit(&sessions), (1001, 1, 0));
}

/// Once, the second step was refused: rows of the third version had an image that
/// the second could read and the first could not.
#[test]
fn a_plugin_goes_back_step_by_step_before_a_step_is_committed() {
    let mut harness = Harness::with(on_probation);
    for major in 1..=3 {
        deploy(&mut harness, major);
    }
    harness.host.commit(&name()).wait().expect("is committed");
    wait_until("the new schema", || table(&harness, "sessions").schema == 3);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 100}"#);
    harness.activate("sessions", "2.0.0").expect("goes back");
    call(&sessions, "touch", "t1");
    harness.activate("sessions", "1.0.0").expect("goes further back");
    assert_eq!(session(&sessions, "t1")["hits"], 1);
    assert_eq!(audit(&sessions), (100, 1, 0));
}

/// Callers that count on the same rows through both arms of a trial.
struct Counting {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<u64>>,
}

impl Counting {
    fn on(sessions: &Plugin) -> Counting {
        let stop = Arc::<AtomicBool>::default();
        let threads = (0..3).map(|_| {
            let (sessions, stop) = (sessions.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut made = 0;
                // Relaxed: joined before anything else is looked at.
                while !stop.load(Ordering::Relaxed) {
                    let token = format!("t{}", made % 7);
                    sessions.call("touch", token.as_bytes()).expect("no call fails");
                    made += 1;
                }
                made
            })
        });
        let threads = threads.collect();
        Counting { stop, threads }
    }

    fn made(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("does not panic")).sum()
    }
}

#[test]
fn two_versions_that_write_the_same_rows_lose_no_update() {
    let mut harness = Harness::with(on_probation);
    stay_with(&mut harness, 1, 2);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 7}"#);
    let share = Share::from_basis_points(5_000).expect("a half");
    harness.host.try_version(&name(), "2.0.0".parse().expect("a version"), share).wait().expect("is tried");

    let counting = Counting::on(&sessions);
    let both = || {
        let status = harness.host.status();
        let plugin = status.plugin("sessions").expect("is known");
        plugin.calls > 3_000 && plugin.trial.as_ref().is_some_and(|trial| trial.calls > 3_000)
    };
    wait_until("both versions to write", both);
    harness.host.promote(&name()).wait().expect("is promoted");
    harness.host.commit(&name()).wait().expect("is committed");
    let before = calls(&harness);
    wait_until("calls after the commit", || calls(&harness) > before + 1_000);
    let made = counting.made();
    assert_eq!(audit(&sessions), (7, made, 0));

    harness.activate("sessions", "1.0.0").expect("goes back");
    let counting = Counting::on(&sessions);
    let before = calls(&harness);
    wait_until("calls after the rollback", || calls(&harness) > before + 1_000);
    let made = made + counting.made();
    assert_eq!(audit(&sessions), (7, made, 0));
}

fn calls(harness: &Harness) -> u64 {
    harness.host.status().plugin("sessions").map_or(0, |plugin| plugin.calls)
}

/// Once, they counted as values for whichever version came next.
#[test]
fn what_a_tried_version_wrote_counts_as_its_images_when_the_host_ends() {
    let kept = |host| kept_by_the_process(on_probation(host));
    let mut harness = Harness::with(kept);
    stay_with(&mut harness, 1, 2);
    let sessions = harness.plugin("sessions");
    let all = Share::from_basis_points(10_000).expect("all of them");
    harness.host.try_version(&name(), "2.0.0".parse().expect("a version"), all).wait().expect("is tried");
    open(&sessions, "t", "ada");
    wait_until("a use after it was opened", || {
        call(&sessions, "touch", "t");
        let session = session(&sessions, "t");
        session["last_used_ms"].as_u64() > session["opened_ms"].as_u64()
    });
    drop(sessions);
    let home = harness.shutdown().1;
    fs::remove_file(home.path().join("plugins/sessions-1.0.0.so")).expect("is there");

    let mut harness = Harness::again(home, kept);
    harness.published("sessions@2.0.0");
    let session = session(&harness.plugin("sessions"), "t");
    assert_eq!(session["last_used_ms"], session["opened_ms"], "the image does not know better");
}

#[test]
fn a_sweep_can_be_paused_and_goes_on() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    harness.host.pause_sweep(&name(), true);
    deploy(&mut harness, 2);
    harness.expect("the commit", |event| {
        matches!(event.kind, EventKind::TablesCommitted) && is(event, "sessions@2.0.0")
    });
    wait_until("the new schema", || table(&harness, "sessions").schema == 2);
    assert!(!table(&harness, "sessions").sweep.is_some_and(|sweep| sweep.done));
    // What is read is converted all the same.
    assert_eq!(session(&sessions, "t9")["hits"], 0);
    harness.host.pause_sweep(&name(), false);
    swept(&harness, 2);
    harness.expect("the end of the sweep", |event| {
        matches!(&event.kind, EventKind::TableSwept { table, converted: 999, left: 0, .. } if table == "sessions")
    });
}

/// Once, a sweep that ended because another version served counted as done when
/// its own served again.
#[test]
fn a_sweep_that_another_version_cut_short_goes_on_when_its_own_is_back() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    harness.host.pause_sweep(&name(), true);
    deploy(&mut harness, 2);
    harness.host.commit(&name()).wait().expect("is committed");
    wait_until("the new schema", || table(&harness, "sessions").schema == 2);
    deploy_example(&mut harness, "one-way", "2.1.0");
    harness.host.pause_sweep(&name(), false);
    // sleep: the sweep sees that another version serves, which nothing shows.
    thread::sleep(Duration::from_millis(100));
    harness.host.roll_back(&name(), None).expect("goes back");
    swept(&harness, 2);
}

/// Once, rows that a sweep had not got to were read by field name, or not at all,
/// by a version that did not know their schema any more.
#[test]
fn a_version_that_has_dropped_a_step_waits_for_the_sweep_that_needs_it() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    call(&sessions, "touch", "t7");
    harness.host.pause_sweep(&name(), true);
    deploy(&mut harness, 2);

    let library = artifacts::example("sessions-core", "forgetful");
    harness.drop_file(How::Rename, &library, "sessions-3.1.0.so");
    let refused = harness.not_deployed("sessions@3.1.0");
    assert_eq!(refused.code, "table.unswept");
    assert!(refused.message.contains("table sessions still has rows of schema 1"), "{refused}");
    let half = Share::from_basis_points(5_000).expect("a half");
    let tried = harness.host.try_version(&name(), "3.1.0".parse().expect("a version"), half).wait();
    assert_eq!(tried.expect_err("nor beside it").code().as_str(), "table.unswept");
    // The version before is still kept ready.
    harness.host.roll_back(&name(), None).expect("goes back");
    harness.activate("sessions", "2.0.0").expect("goes forth");
    harness.host.commit(&name()).wait().expect("is on probation");

    harness.host.pause_sweep(&name(), false);
    swept(&harness, 2);
    harness.activate("sessions", "3.1.0").expect("there are no such rows any more");
    assert_eq!(session(&sessions, "t7")["visits"], 1);
    assert_eq!(audit(&sessions), (1000, 1, 0));
}

#[test]
fn a_table_that_is_full_refuses_a_new_row_and_nothing_else() {
    let full = |host: HostBuilder| host.config("sessions", json!({"rows_max": 2}));
    let mut harness = Harness::with(full);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    open(&sessions, "a", "ada");
    open(&sessions, "b", "ada");
    let refused = sessions.call_with("open", br#"{"token":"c","user":"ada"}"#, &CallOptions::default());
    let refused = refused.expect_err("there is no room");
    assert!(refused.to_string().contains("table.rows_max"), "{refused}");
    assert_eq!(call(&sessions, "touch", "a"), "1");
    assert_eq!(call(&sessions, "close", "b"), "true");
    open(&sessions, "c", "ada");
}

#[test]
fn a_version_that_cannot_go_back_serves_alone_and_a_rollback_past_its_rows_is_refused() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    harness.activate("sessions", "1.0.0").expect("serves");
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 100}"#);
    let library = artifacts::example("sessions-core", "one-way");
    harness.drop_file(How::Rename, &library, "sessions-2.1.0.so");
    harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));

    let share = Share::from_basis_points(100).expect("one in a hundred");
    let tried = harness.host.try_version(&name(), "2.1.0".parse().expect("a version"), share).wait();
    assert_eq!(tried.expect_err("both cannot serve").code().as_str(), "route.shared_state");

    // Calls go on meanwhile; none of them sees a row that it cannot read.
    let counting = Counting::on(&sessions);
    harness.activate("sessions", "2.1.0").expect("takes over");
    let before = calls(&harness);
    wait_until("calls on it", || calls(&harness) > before + 500);
    let made = counting.made();
    assert_eq!(audit(&sessions), (100, made, 0));
    let error = harness.host.roll_back(&name(), None).expect_err("nothing is kept ready");
    assert_eq!(error.code().as_str(), "rollback.not_warm");
    let refused = harness.activate("sessions", "1.0.0").expect_err("its rows cannot go back");
    assert_eq!(refused.code, "state.no_path");
    assert!(refused.message.contains("rows of table sessions have schema 2"), "{refused}");
    assert_eq!(audit(&sessions), (100, made, 0));
}

#[test]
fn a_loss_that_is_allowed_is_counted_and_the_rest_is_kept() {
    let mut harness = Harness::with(|host| host.allow_state_loss(true));
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 50}"#);
    // What nobody has touched is still in the shape of 1.0.0.
    harness.host.pause_sweep(&name(), true);
    deploy_example(&mut harness, "one-way", "2.1.0");
    for token in 0..10 {
        call(&sessions, "touch", &format!("t{token}"));
    }
    harness.activate("sessions", "1.0.0").expect("goes back");
    let loss = harness.expect("the loss", |event| matches!(event.kind, EventKind::TableLoss { .. }));
    assert!(
        matches!(&loss.kind, EventKind::TableLoss { table, rows: 10 } if table == "sessions"),
        "{loss:?}"
    );
    let (left, hits, _) = audit(&sessions);
    assert_eq!((left, hits), (40, 0));
}

/// Once, one row whose step down failed kept the whole plugin from going back.
#[test]
fn a_row_whose_step_down_fails_is_a_loss_that_can_be_allowed() {
    for allowed in [false, true] {
        let mut harness = Harness::with(|host| host.allow_state_loss(allowed));
        deploy_example(&mut harness, "broken-step", "2.2.0");
        let sessions = harness.plugin("sessions");
        open(&sessions, "a", "ada");
        open(&sessions, "b", "stays");
        let library = artifacts::plugin("sessions-v1");
        harness.drop_file(How::Rename, &library, "sessions-1.0.0.so");
        harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));
        let gone_back = harness.activate("sessions", "1.0.0");
        if !allowed {
            let refused = gone_back.expect_err("a row cannot go back");
            assert!(refused.message.contains("this user does not go back"), "{refused}");
            assert_eq!(audit(&sessions).0, 2);
            continue;
        }
        gone_back.expect("goes back");
        let loss = harness.expect("the loss", |event| matches!(event.kind, EventKind::TableLoss { .. }));
        let is_the_row = matches!(&loss.kind, EventKind::TableLoss { table, rows: 1 } if table == "sessions");
        assert!(is_the_row, "{loss:?}");
        assert_eq!(audit(&sessions).0, 1);
    }
}

#[test]
fn rows_that_cannot_be_converted_stay_and_are_told() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    for (token, user) in [("a", "ada"), ("b", "panics"), ("c", "refused"), ("d", "dan")] {
        open(&sessions, token, user);
    }
    deploy_example(&mut harness, "broken-step", "2.2.0");
    let swept = swept(&harness, 2);
    assert_eq!((swept.rows, swept.sweep.map(|sweep| sweep.failed)), (4, Some(2)));
    harness.expect("the sweep's failure", |event| {
        matches!(&event.kind, EventKind::StateProblem { failure } if failure.message.starts_with("convert"))
    });
    assert_eq!(call(&sessions, "touch", "a"), "1");
    for (token, words) in [("b", "nobody said what to do"), ("c", "this user is not wanted")] {
        let error = sessions.call("touch", token.as_bytes()).expect_err("it cannot be read");
        assert!(error.to_string().contains(words), "{error}");
    }
    // Going back leaves them as they were.
    harness.activate("sessions", "1.0.0").expect("goes back");
    assert_eq!(call(&sessions, "touch", "b"), "1");
    assert_eq!(audit(&sessions), (4, 2, 0));
}

/// Once, a host that started deployed whichever file it read first, which refused
/// an earlier version because it could not read the rows.
#[test]
fn a_host_that_starts_again_deploys_the_version_that_served_and_no_other() {
    let kept = |host: HostBuilder| host.config("sessions", json!({"durability": "process"}));
    let mut harness = Harness::with(kept);
    for major in 1..=3 {
        deploy(&mut harness, major);
    }
    swept(&harness, 3);
    for _ in 0..5 {
        harness = Harness::again(harness.shutdown().1, kept);
        harness.expect("a deployment", |event| {
            assert!(!matches!(event.kind, EventKind::DeployFailed { .. }), "{event:?}");
            let is_published = matches!(event.kind, EventKind::Published { .. });
            assert!(!is_published || is(event, "sessions@3.0.0"), "{event:?}");
            is_published
        });
    }
}
