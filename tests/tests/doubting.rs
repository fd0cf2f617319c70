//! Choices of versions whose rows are committed behind the gate, and that are refused
//! there: what is on the disk of them when the process is killed.

use replug_host::{
    Host, HostBuilder, HostError, Outcome, TableStatus,
    event::{EventKind, Next},
    id::VersionId,
};
use replug_tests::{
    disk::{HangingDisk, take_no_seals},
    harness::{Harness, alone, has_thread, wait_until},
    sessions::{audit, call, deploy, deploy_example, kept_by_the_disk, kept_by_the_process, name, swept},
};
use std::{
    env, fs,
    future::IntoFuture,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

/// Where the child below finds its directories.
const HOME: &str = "REPLUG_TEST_DOUBTING";

/// When it is to be killed.
const MOMENT: &str = "REPLUG_TEST_DOUBTING_MOMENT";

/// Before a commit was begun, and while a disk hangs.
const NOT_BEGUN: &str = "not begun";
/// It hangs with the commit.
const BEGUN: &str = "begun";
/// It hangs again when the commit is on it.
const WRITTEN: &str = "written";
/// It fails when the commit is on it, which is not sealed.
const UNSEALED: &str = "unsealed";
/// It hangs with the commit, and works again: all of it is taken back.
const TAKEN_BACK: &str = "taken back";
/// The tables are kept by the disk, which hangs: the commit is queued for it.
const QUEUED: &str = "queued";

/// Goes back although rows are lost; callers wait for so long only.
fn lossy(host: HostBuilder, moment: &str) -> HostBuilder {
    let host = host.allow_state_loss(true);
    let host = if moment == QUEUED { kept_by_the_disk(host) } else { kept_by_the_process(host) };
    let host = host.gate_timeout(Duration::from_secs(4)).quiesce_timeout(Duration::from_secs(2));
    host.hook_timeout(Duration::from_secs(2))
}

/// The choices that are on the disk.
fn choices(home: &Path) -> String {
    fs::read_to_string(home.join("data/choices.json")).unwrap_or_default()
}

type Answer = <Outcome<VersionId> as IntoFuture>::IntoFuture;

fn activate(host: &Host, version: &str) -> Answer {
    host.activate(&name(), Some(version.parse().expect("a version"))).into_future()
}

/// What was answered, if it was by now.
fn answered(answer: &mut Answer) -> Option<Result<VersionId, HostError>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answered) => Some(answered),
        Poll::Pending => None,
    }
}

/// Is refused to go back to 1.0.0, and waits to be killed; run in a process of its own.
#[test]
fn child_is_refused_at_the_gate_and_waits_to_be_killed() {
    let Some(home) = env::var_os(HOME).map(PathBuf::from) else { return };
    let moment = env::var(MOMENT).expect("is told");
    let host = Host::builder(home.join("plugins")).data_dir(home.join("data"));
    let host = lossy(host, &moment).start().expect("starts");
    wait_until("2.1.0 to be swept", || {
        let status = host.status();
        let tables = status.plugin("sessions").map(|sessions| &*sessions.tables).unwrap_or_default();
        let is_swept = |table: &TableStatus| table.sweep.as_ref().is_some_and(|sweep| sweep.done);
        !tables.is_empty() && tables.iter().all(is_swept)
    });
    let sessions = host.plugin("sessions").expect("a name");
    let in_the_way = sessions.lease("a test").expect("serves");
    let mut refused = activate(&host, "1.0.0");
    wait_until("the choice", || choices(&home).contains("1.0.0"));
    let mut disk = HangingDisk::below(&home.join("data/tables/sessions"));
    let _in_the_way = (moment == NOT_BEGUN).then_some(in_the_way);
    if moment == QUEUED {
        wait_until("the answer", || answered(&mut refused).is_some_and(|chosen| chosen.is_ok()));
        wait_to_be_killed(&home);
    }
    if moment != NOT_BEGUN {
        // Each of two tables is told that there is another version.
        disk.let_through(2);
    }
    if moment == UNSEALED {
        wait_until("the commit", || has_thread("replug-gate"));
        take_no_seals(&home.join("data/tables/sessions"));
        disk.let_through(1);
    }
    let mut refusal = None;
    wait_until("the refusal", || {
        refusal = refusal.take().or_else(|| answered(&mut refused));
        refusal.is_some()
    });
    let code = match &*moment {
        NOT_BEGUN => "gate.quiesce_timeout",
        UNSEALED => "table.store_failed",
        _ => "gate.budget",
    };
    assert!(matches!(&refusal, Some(Err(HostError::Failed(told))) if told.code == code), "{refusal:?}");
    assert_eq!(choices(&home).contains("1.0.0"), moment != NOT_BEGUN, "{}", choices(&home));

    if moment == UNSEALED {
        // Waits until all is done that can be.
        host.snapshots().restore(&name(), None).wait().expect_err("there is none");
        let mut events = host.events_since(1);
        let mut is_told = false;
        while let Next::Event(event) = events.next_within(Duration::ZERO) {
            is_told |= matches!(&event.kind, EventKind::StateProblem { failure } if failure.code == code);
        }
        assert!(is_told);
        // What comes of another attempt says nothing of what is on the disk.
        let refused = host.activate(&name(), Some("1.0.0".parse().expect("a version"))).wait();
        assert!(matches!(&refused, Err(HostError::Failed(told)) if told.code == code), "{refused:?}");
        host.snapshots().restore(&name(), None).wait().expect_err("there is none");
        assert!(choices(&home).contains("\"before\""), "{}", choices(&home));
        // Nor does that what is asked for serves already.
        let open = host.activate(&name(), Some("2.1.0".parse().expect("a version"))).wait();
        assert!(matches!(&open, Err(HostError::Failed(told)) if told.code == code), "{open:?}");
        assert!(choices(&home).contains("\"before\""), "{}", choices(&home));
        wait_to_be_killed(&home);
    }
    if moment == TAKEN_BACK {
        disk.let_through(1);
        disk.works_again();
        wait_until("the choice before", || !choices(&home).contains("1.0.0"));
        wait_to_be_killed(&home);
    }
    let mut again = activate(&host, "2.1.0");
    // What is asked after it is answered.
    host.save_state().wait().expect("there is none");
    assert_eq!(answered(&mut again).is_some(), moment == NOT_BEGUN, "nothing is to be settled");
    if moment == BEGUN {
        let mut pins = Vec::new();
        wait_until("the end of its patience", || {
            let status = host.status();
            let unloading =
                status.plugin("sessions").map(|sessions| &*sessions.unloading).unwrap_or_default();
            pins = unloading.iter().flat_map(|unloading| unloading.pins.clone()).collect();
            !pins.is_empty()
        });
        assert_eq!(pins, ["its tables wait for their disk"], "no hook of it runs");
    }
    if moment == WRITTEN {
        disk.let_through(1);
    }
    // With what is in the way.
    wait_to_be_killed(&home);
}

fn wait_to_be_killed(home: &Path) -> ! {
    fs::write(home.join("moment"), b"").expect("room");
    loop {
        thread::park();
    }
}

/// Killed at the latest when this is dropped.
struct Doomed(Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        // It may have ended by itself, and then its status is there.
        _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What a host finds that is started after that.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// The version that serves.
    serves: &'static str,
    rows: u64,
    /// Whether the later choice stands, where that was open.
    decided: Option<bool>,
}

fn after_a_kill_when(moment: &'static str) -> Found {
    let _alone = alone();
    let lossy = |host| lossy(host, moment);
    let mut harness = Harness::with(lossy);
    deploy(&mut harness, 1);
    deploy_example(&mut harness, "one-way", "2.1.0");
    call(&harness.plugin("sessions"), "fill", r#"{"from": 0, "count": 10}"#);
    let home = harness.shutdown().1;
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", "child_is_refused_at_the_gate_and_waits_to_be_killed", "--nocapture"]);
    let child = child.env(HOME, home.path()).env(MOMENT, moment).stdout(Stdio::null()).spawn();
    let mut child = Doomed(child.expect("runs"));
    let has_come = home.path().join("moment");
    wait_until("the moment", || has_come.exists() || child.0.try_wait().expect("runs").is_some());
    assert!(has_come.exists(), "the child failed {moment}");
    child.0.kill().expect("runs yet");
    drop(child);

    let mut harness = Harness::again(home, lossy);
    let (mut serves, mut decided) = ("", None);
    harness.expect("a version to serve", |event| {
        match &event.kind {
            EventKind::ChoiceDecided { stands, chosen, before, .. } => {
                assert_eq!((chosen.as_deref(), before), (Some("1.0.0"), &None));
                decided = Some(*stands);
            }
            EventKind::Published { .. } => {
                let id = event.version.clone().expect("it has a name");
                let version = ["1.0.0", "2.1.0"].into_iter().find(|version| id.contains(version));
                serves = version.expect("there are no others");
            }
            _ => {}
        }
        !serves.is_empty()
    });
    if serves == "1.0.0" {
        // Until its commit counts it finds rows that it cannot read.
        swept(&harness, 1);
    }
    Found { serves, rows: audit(&harness.plugin("sessions")).0, decided }
}

/// Once, the choice was kept until all was undone although nothing was committed, and
/// a process that was killed meanwhile began with it: rows were lost for a version
/// that had been refused.
#[test]
fn a_choice_that_was_refused_before_its_rows_were_committed_is_gone_at_once() {
    let found = Found { serves: "2.1.0", rows: 10, decided: None };
    assert_eq!(after_a_kill_when(NOT_BEGUN), found);
}

/// Likewise.
#[test]
fn a_choice_whose_commit_did_not_get_to_the_disk_does_not_stand() {
    let found = Found { serves: "2.1.0", rows: 10, decided: Some(false) };
    assert_eq!(after_a_kill_when(BEGUN), found);
}

/// Once, the choice before was put back at once: a process that was killed when the
/// store had taken a commit, and before that was taken back, began with a version
/// that was not to lose its rows.
#[test]
fn a_choice_whose_commit_is_on_the_disk_stands_until_that_is_taken_back() {
    let found = Found { serves: "1.0.0", rows: 0, decided: Some(true) };
    assert_eq!(after_a_kill_when(WRITTEN), found);
    let found = Found { serves: "2.1.0", rows: 10, decided: None };
    assert_eq!(after_a_kill_when(TAKEN_BACK), found);
}

/// Once, it was settled with the choice before when nothing more could be done: that
/// began with tables in which all its rows were void, and nobody had been told.
#[test]
fn a_choice_whose_commit_cannot_be_taken_back_stands_and_that_is_told() {
    let found = Found { serves: "1.0.0", rows: 0, decided: Some(true) };
    assert_eq!(after_a_kill_when(UNSEALED), found);
}

/// What is kept by the disk is waited for by nobody: the version serves, and the choice
/// is kept without what is open.
#[test]
fn a_choice_whose_commit_is_queued_for_a_disk_that_hangs_is_carried_out() {
    let found = Found { serves: "1.0.0", rows: 0, decided: None };
    assert_eq!(after_a_kill_when(QUEUED), found);
}
