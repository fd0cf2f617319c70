//! The way back over rows: from one version to an earlier one, also over the end
//! of a process, and while the version before serves.
//!
//! long: one test for each way in which it was cut short once, or took rows with it.

use replug_host::{
    Host, HostBuilder,
    dispatch::Share,
    event::{EventKind, Next},
    failure::Failure,
};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    sessions::{
        audit, call, deploy, deploy_example, kept_by_the_process, name, on_probation, open, session, swept,
        table,
    },
};
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Serves 1.0.0 and then 2.0.0, whose probation the end of the host cuts short;
/// what has that host's directories.
fn ended_on_probation() -> tempfile::TempDir {
    let mut harness = Harness::with(|host| kept_by_the_process(on_probation(host)));
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 100}"#);
    deploy(&mut harness, 2);
    call(&sessions, "touch", "t1");
    drop(sessions);
    harness.shutdown().1
}

/// Once, the version that was on probation was committed when the host started
/// again, and its way back was gone.
#[test]
fn a_version_that_was_on_probation_when_the_host_ended_is_on_it_again() {
    let mut harness = Harness::again(ended_on_probation(), |host| kept_by_the_process(on_probation(host)));
    harness.published("sessions@2.0.0");
    // Commands are taken one after the other: what followed from the start is over.
    harness.host.save_state().wait().expect("there is nothing to save");
    assert_eq!(table(&harness, "sessions").schema, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "touch", "t1");

    harness.delete("sessions-2.0.0.so");
    harness.published("sessions@1.0.0");
    assert_eq!(session(&sessions, "t1")["hits"], 2);
    assert_eq!(audit(&sessions), (100, 2, 0));
    let unread = |event: &replug_host::event::Event| matches!(event.kind, EventKind::TableLoss { .. });
    assert!(!harness.shutdown().0.iter().any(|event| unread(event)));
}

#[test]
fn the_probation_of_a_version_that_started_again_ends_with_its_time_or_by_command() {
    let short = Duration::from_millis(300);
    let mut harness = Harness::again(ended_on_probation(), |host| kept_by_the_process(host.probation(short)));
    harness.published("sessions@2.0.0");
    swept(&harness, 2);

    let mut harness = Harness::again(ended_on_probation(), |host| kept_by_the_process(on_probation(host)));
    harness.published("sessions@2.0.0");
    harness.host.commit(&name()).wait().expect("is on probation");
    swept(&harness, 2);
    let again = harness.host.commit(&name()).wait().expect_err("it is over");
    assert_eq!(again.code().as_str(), "rollback.not_warm");
}

/// Once, the command loop was held up until all rows had an image.
#[test]
fn a_downgrade_waits_for_its_rows_and_nobody_waits_for_it() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    deploy(&mut harness, 2);
    swept(&harness, 2);
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    harness.host.pause_sweep(&name(), true);
    let chosen = harness.host.activate(&name(), Some("1.0.0".parse().expect("a version")));
    wait_until("the way back to begin", || {
        table(&harness, "sessions").sweep.is_none_or(|sweep| sweep.paused && !sweep.done)
    });
    // Commands are carried out, of this plugin and of others, and calls are made.
    harness.host.save_state().wait().expect("there is nothing to save");
    call(&sessions, "touch", "t1");
    assert_eq!(table(&harness, "sessions").schema, 2, "nothing is committed yet");
    let half = Share::from_basis_points(5_000).expect("a half");
    let tried = harness.host.try_version(&name(), "1.0.0".parse().expect("a version"), half).wait();
    assert_eq!(tried.expect_err("one step after the other").code().as_str(), "gate.busy");

    harness.host.pause_sweep(&name(), false);
    chosen.wait().expect("goes back");
    assert_eq!(audit(&sessions), (1000, 1, 0));
    swept(&harness, 1);
}

#[test]
fn a_downgrade_is_given_up_for_another_choice_and_by_the_end_of_the_host() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    deploy(&mut harness, 2);
    swept(&harness, 2);
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    harness.host.pause_sweep(&name(), true);
    let choose = |harness: &Harness, version: &str| {
        harness.host.activate(&name(), Some(version.parse().expect("a version")))
    };
    let first = choose(&harness, "1.0.0");
    choose(&harness, "2.0.0").wait().expect("it serves");
    assert_eq!(first.wait().expect_err("is wanted no more").code().as_str(), "deploy.superseded");
    harness.unloaded("sessions@1.0.0");
    let again = choose(&harness, "1.0.0");
    // Which writes down what was chosen of all plugins.
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    harness.activate("limiter", "1.0.0").expect("serves");
    let home = harness.shutdown().1;
    again.wait().expect_err("the host has ended");

    // Neither the choice nor the schema has come into force.
    harness = Harness::again(home, kept_by_the_process);
    harness.published("sessions@2.0.0");
    assert_eq!(table(&harness, "sessions").schema, 2);
    assert_eq!(audit(&harness.plugin("sessions")), (1000, 0, 0));
}

/// Once, rows were turned back by whichever version served at that moment, and
/// counted as those of the one that had served before.
#[test]
fn a_downgrade_is_refused_when_another_version_serves_than_when_it_began() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    deploy(&mut harness, 2);
    harness.host.commit(&name()).wait().expect("is on probation");
    swept(&harness, 2);
    call(&sessions, "fill", r#"{"from": 0, "count": 1000}"#);
    deploy_example(&mut harness, "broken-step", "2.2.0");
    harness.host.pause_sweep(&name(), true);
    let chosen = harness.host.activate(&name(), Some("1.0.0".parse().expect("a version")));
    harness.host.save_state().wait().expect("is behind the choice");
    harness.host.roll_back(&name(), None).expect("goes back to 2.0.0");
    let refused = chosen.wait().expect_err("its rows were to be made by another");
    assert_eq!(refused.code().as_str(), "gate.busy");
    harness.host.pause_sweep(&name(), false);
    swept(&harness, 2);
    harness.activate("sessions", "1.0.0").expect("2.0.0 makes them");
    assert_eq!(audit(&sessions), (1000, 0, 0));
}

/// Once, rows that no other version can read were let in while calls on an older
/// one were in flight.
#[test]
fn a_version_without_a_way_back_is_let_in_when_calls_on_all_others_have_ended() {
    let mut harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 10}"#);
    deploy(&mut harness, 2);
    let in_flight = sessions.lease("an async call").expect("2.0.0 serves");
    harness.host.roll_back(&name(), None).expect("goes back");
    let library = artifacts::example("sessions-core", "one-way");
    harness.drop_file(How::Rename, &library, "sessions-2.1.0.so");
    let refused = harness.not_deployed("sessions@2.1.0");
    assert_eq!(refused.code, "gate.busy");
    assert_eq!(table(&harness, "sessions").schema, 1);

    drop(in_flight);
    harness.published("sessions@2.1.0");
    assert_eq!(table(&harness, "sessions").schema, 2);
    assert_eq!(audit(&sessions), (10, 0, 0));
}

/// Has whoever reads the tables in these directories wait for [`answer`], which is
/// given what is returned.
fn hang(home: &Path) -> (PathBuf, PathBuf) {
    let (seal, aside) = (home.join("data/tables/sessions/process/seal"), home.join("seal"));
    fs::rename(&seal, &aside).expect("there is one");
    // Whoever opens it waits for somebody who writes.
    assert!(Command::new("mkfifo").arg(&seal).status().expect("runs").success());
    (seal, aside)
}

fn answer(seal: &Path, aside: &Path) {
    let mut answer = fs::OpenOptions::new().write(true).open(seal).expect("somebody reads");
    let bytes = fs::read(aside).expect("reads");
    fs::rename(aside, seal).expect("takes its place");
    answer.write_all(&bytes).expect("is awaited");
}

/// Once, a trial had tables read within a hook, which the command loop waited for.
#[test]
fn a_trial_waits_for_tables_that_nobody_has_read_and_no_other_plugin_does() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    open(&harness.plugin("sessions"), "a", "ada");
    let home = harness.shutdown().1;
    harness = Harness::with(on_probation);
    deploy(&mut harness, 1);
    harness.activate("sessions", "1.0.0").expect("serves");
    let library = artifacts::plugin("sessions-v2");
    harness.drop_file(How::Rename, &library, "sessions-2.0.0.so");
    harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));
    // As an operator may, who brings them from another host.
    let tables = harness.data_dir().join("tables");
    fs::remove_dir_all(&tables).ok();
    fs::rename(home.path().join("data/tables"), &tables).expect("are there");
    let (seal, aside) = hang(harness.data_dir().parent().expect("the home"));

    let half = Share::from_basis_points(5_000).expect("a half");
    let tried = harness.host.try_version(&name(), "2.0.0".parse().expect("a version"), half);
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    let again = harness.host.try_version(&name(), "2.0.0".parse().expect("a version"), half).wait();
    assert_eq!(again.expect_err("it waits already").code().as_str(), "gate.busy");
    answer(&seal, &aside);
    assert_eq!(tried.wait().expect("is tried").version.to_string(), "2.0.0");
}

/// Once, the command loop read tables itself: as long as a disk did not answer,
/// no plugin was deployed and no command carried out.
#[test]
fn a_disk_that_does_not_answer_holds_up_its_own_plugin_only() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    open(&harness.plugin("sessions"), "a", "ada");
    let home = harness.shutdown().1;
    let (seal, aside) = hang(home.path());

    harness = Harness::again(home, kept_by_the_process);
    harness.deploy(&artifacts::plugin("limiter-v1"), "limiter-1.0.0.so", "limiter@1.0.0");
    harness.host.save_state().wait().expect("saves that of the limiter");
    let sessions = harness.plugin("sessions");
    assert!(sessions.call("count", b"").is_err(), "it does not serve yet");

    answer(&seal, &aside);
    harness.published("sessions@1.0.0");
    assert_eq!(call(&sessions, "count", ""), "1");
}

/// Once, a version that had to be let in alone for its rows began without the
/// state that was saved for it.
#[test]
fn saved_state_is_restored_also_where_callers_wait_because_of_rows() {
    let mut harness = Harness::new();
    deploy_example(&mut harness, "tallied-one-way", "2.3.0");
    let sessions = harness.plugin("sessions");
    for _ in 0..3 {
        call(&sessions, "touch", "t1");
    }
    let home = harness.shutdown().1;
    fs::remove_file(home.path().join("plugins/sessions-2.3.0.so")).expect("is there");

    let mut harness = Harness::again(home, |host| host);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 10}"#);
    deploy_example(&mut harness, "tallied-one-way", "2.3.0");
    assert_eq!(call(&sessions, "tally", ""), "3");
    assert_eq!(call(&sessions, "touch", "t1"), "1");
}

/// Once, they were committed when the version before had gone: a crash until then
/// left rows that it would have read as they had been.
#[test]
fn rows_without_a_way_back_are_committed_with_the_state_that_is_handed_over() {
    let mut harness = Harness::new();
    deploy_example(&mut harness, "tallied", "1.3.0");
    let sessions = harness.plugin("sessions");
    call(&sessions, "touch", "t1");
    deploy_example(&mut harness, "tallied-one-way", "2.3.0");
    assert_eq!(table(&harness, "sessions").schema, 2);
    wait_until("1.3.0 to stop, which it is slow at", || {
        let status = harness.host.status();
        let leaving = &status.plugin("sessions").expect("is known").unloading;
        leaving.iter().any(|version| version.id.starts_with("sessions@1.3.0"))
    });
    assert_eq!((call(&sessions, "touch", "t1"), call(&sessions, "tally", "")), ("2".into(), "2".into()));
}

/// Once, what a version without a way back wrote between the count of its rows
/// and its last call was lost without a word.
#[test]
fn the_rows_of_a_version_without_a_way_back_are_counted_when_nobody_writes_any_more() {
    let mut harness = Harness::new();
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 10}"#);
    harness.host.pause_sweep(&name(), true);
    deploy_example(&mut harness, "one-way", "2.1.0");
    let pause = || harness.host.status().plugin("sessions").expect("is known").last_pause_us;
    let first = pause().expect("callers waited for what it writes");
    // No row has its schema yet.
    harness.activate("sessions", "1.0.0").expect("loses nothing");
    assert_ne!(pause(), Some(first), "callers waited until it wrote no more");
    assert_eq!(audit(&sessions), (10, 0, 0));
}

/// Once, they could not be read until the end of a probation: the loss had been
/// allowed and was not taken.
#[test]
fn a_loss_that_is_allowed_at_the_start_is_taken_at_once() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 2);
    call(&harness.plugin("sessions"), "fill", r#"{"from": 0, "count": 10}"#);
    let home = harness.shutdown().1;
    fs::remove_file(home.path().join("plugins/sessions-2.0.0.so")).expect("is there");
    fs::copy(artifacts::plugin("sessions-v1"), home.path().join("plugins/sessions-1.0.0.so"))
        .expect("copies");
    let lossy = |host| kept_by_the_process(on_probation(host)).allow_state_loss(true);
    let mut harness = Harness::again(home, lossy);
    harness.expect(
        "the loss",
        |event| matches!(&event.kind, EventKind::TableLoss { table, rows: 10 } if table == "sessions"),
    );
    swept(&harness, 1);
    assert_eq!(audit(&harness.plugin("sessions")), (0, 0, 10), "the other table has one schema only");
}

/// Where the child below finds its directories.
const HOME: &str = "REPLUG_TEST_GOING_BACK";

/// Likewise, for the one that ends by itself.
const UNTIL_DONE: &str = "REPLUG_TEST_UNTIL_DONE";

/// Goes back to 1.0.0 until it is killed; run in a process of its own.
#[test]
fn child_goes_back_until_it_is_killed() {
    let Some(home) = env::var_os(HOME).map(PathBuf::from) else { return };
    let host = Host::builder(home.join("plugins")).data_dir(home.join("data"));
    let host = kept_by_the_process(host).start().expect("starts");
    wait_until("2.0.0 to serve", || {
        host.status().plugin("sessions").is_some_and(|sessions| sessions.active.is_some())
    });
    let chosen = host.activate(&name(), Some("1.0.0".parse().expect("a version")));
    fs::write(home.join("begun"), b"").expect("room");
    chosen.wait().expect("goes back");
    fs::write(home.join("answered"), b"").expect("room");
    loop {
        thread::park();
    }
}

/// Runs the child until it has come so far, and kills it some time later.
fn kill_when(home: &Path, so_far: &str, later: Duration) {
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", "child_goes_back_until_it_is_killed"]).env(HOME, home);
    let mut child = child.stdout(Stdio::null()).spawn().expect("runs");
    let so_far = home.join(so_far);
    wait_until("the way back", || so_far.exists());
    thread::sleep(later); // sleep: the kill comes at different moments
    child.kill().expect("runs yet");
    child.wait().expect("is gone");
}

#[test]
fn a_way_back_that_was_answered_is_gone_no_more_by_a_process_that_is_killed() {
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    deploy(&mut harness, 2);
    swept(&harness, 2);
    call(&harness.plugin("sessions"), "fill", r#"{"from": 0, "count": 100}"#);
    let home = harness.shutdown().1;
    kill_when(home.path(), "answered", Duration::ZERO);

    let mut harness = Harness::again(home, kept_by_the_process);
    harness.published("sessions@1.0.0");
    let status = harness.host.status();
    let sessions = status.plugin("sessions").expect("is known");
    assert_eq!(sessions.pinned.as_deref(), Some("1.0.0"), "2.0.0 is there, and not wanted");
    assert_eq!(audit(&harness.plugin("sessions")), (100, 0, 0));
}

/// Goes back to 1.0.0, and ends without a word when that serves; run in a process
/// of its own.
#[test]
fn child_goes_back_and_ends_when_that_is_done() {
    let Some(home) = env::var_os(UNTIL_DONE).map(PathBuf::from) else { return };
    let host = Host::builder(home.join("plugins")).data_dir(home.join("data"));
    let host = kept_by_the_process(host.allow_state_loss(true)).start().expect("starts");
    let mut events = host.events_since(1);
    thread::spawn(move || {
        loop {
            if let Next::Event(event) = events.next_within(Duration::from_secs(1))
                && matches!(event.kind, EventKind::Published { .. })
                && is(&event, "sessions@1.0.0")
            {
                std::process::abort();
            }
        }
    });
    wait_until("2.1.0 to serve", || {
        host.status().plugin("sessions").is_some_and(|sessions| sessions.active.is_some())
    });
    host.activate(&name(), Some("1.0.0".parse().expect("a version"))).wait().expect("goes back");
    loop {
        thread::park();
    }
}

/// Once, the choice was written when it was answered: a process that ended before
/// that, and had taken the loss of rows that was allowed for it, went forth again.
#[test]
fn a_choice_outlives_a_process_that_ends_when_rows_were_committed_for_it() {
    let lossy = |host: HostBuilder| kept_by_the_process(host.allow_state_loss(true));
    let mut harness = Harness::with(lossy);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    deploy_example(&mut harness, "one-way", "2.1.0");
    call(&sessions, "fill", r#"{"from": 0, "count": 100}"#);
    drop(sessions);
    let home = harness.shutdown().1;
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", "child_goes_back_and_ends_when_that_is_done"]).env(UNTIL_DONE, home.path());
    child.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs");

    let mut harness = Harness::again(home, lossy);
    let first =
        harness.expect("a version to serve", |event| matches!(event.kind, EventKind::Published { .. }));
    assert!(is(&first, "sessions@1.0.0"), "{first:?}");
    assert_eq!(audit(&harness.plugin("sessions")).0, 0);
}

#[test]
fn no_row_is_given_up_for_a_choice_that_cannot_be_kept() {
    let mut harness = Harness::with(|host| kept_by_the_process(host.allow_state_loss(true)));
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    deploy_example(&mut harness, "one-way", "2.1.0");
    call(&sessions, "fill", r#"{"from": 0, "count": 100}"#);
    let in_the_way = harness.data_dir().join("choices.new");
    fs::create_dir(&in_the_way).expect("is made");
    let refused = harness.activate("sessions", "1.0.0").expect_err("it would be forgotten");
    assert_eq!(refused.code, "state.store", "{refused}");
    let serving = sessions.version().expect("one serves").version.to_string();
    assert_eq!((serving.as_str(), audit(&sessions).0), ("2.1.0", 100));
    fs::remove_dir(&in_the_way).expect("is empty");
    harness.activate("sessions", "1.0.0").expect("is kept now");
    assert_eq!(audit(&sessions).0, 0);
}

#[test]
fn a_process_that_is_killed_on_the_way_back_loses_no_row_without_a_word() {
    for millis in [0, 5, 20, 80, 320] {
        let mut harness = Harness::with(kept_by_the_process);
        deploy(&mut harness, 1);
        let sessions = harness.plugin("sessions");
        deploy(&mut harness, 2);
        swept(&harness, 2);
        call(&sessions, "fill", r#"{"from": 0, "count": 2000}"#);
        call(&sessions, "touch", "t1");
        let home = harness.shutdown().1;
        kill_when(home.path(), "begun", Duration::from_millis(millis));

        // The operator wants the earlier version all the same.
        let plugin = home.path().join("plugins/sessions-2.0.0.so");
        fs::rename(plugin, home.path().join("aside")).expect("is there");
        harness = Harness::again(home, kept_by_the_process);
        let event = harness.expect("1.0.0 to serve or to be refused", |event| {
            matches!(event.kind, EventKind::Published { .. } | EventKind::DeployFailed { .. })
        });
        if let EventKind::DeployFailed { failure, .. } = &event.kind {
            assert_eq!(failure.code, "state.no_path", "{millis} ms: {failure}");
            deploy(&mut harness, 2);
        }
        assert_eq!(audit(&harness.plugin("sessions")), (2000, 1, 0), "{millis} ms: {event:?}");
    }
}
