//! Tables on a disk that fails or hangs, or that lost what was on it.

use replug_host::{
    Host, HostBuilder, HostError,
    dispatch::Share,
    event::{EventKind, FailureReport, Next},
};
use replug_tests::{
    artifacts,
    disk::HangingDisk,
    harness::{Harness, How, PATIENCE, has_thread, is, wait_until},
    sessions::{audit, call, deploy, kept_by_the_process, name, on_probation, swept, table},
};
use std::{
    env, fs,
    io::{self, Write},
    process::{Command, id},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tracing_subscriber::{filter::LevelFilter, util::SubscriberInitExt};

/// Set in the process that has the disk below.
const ON_FAILING_DISK: &str = "REPLUG_TEST_ON_FAILING_DISK";

/// The thread that commits the tables of a version that serves.
const COMMIT: &str = "replug-commit";

/// How large files may get: without a limit, or none of them a byte.
fn limit_files(limit: &str) {
    let of_this = ["--pid".to_owned(), id().to_string(), format!("--fsize={limit}:unlimited")];
    assert!(Command::new("prlimit").args(of_this).status().expect("runs").success());
}

/// Held by tests whose hosts commit tables: threads are looked for in the whole
/// process, where other tests run.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process below logs; its files take nothing.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// How often a sweep has begun.
    fn sweeps(&self) -> usize {
        let log = self.0.lock().expect("nobody panics");
        String::from_utf8_lossy(&log).matches("a sweep of tables begins").count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn of_problem(kind: &EventKind) -> Option<&FailureReport> {
    match kind {
        EventKind::StateProblem { failure } => Some(failure),
        _ => None,
    }
}

/// Sweeps while no file takes a byte; run in a process of its own.
#[test]
fn child_sweeps_on_a_disk_that_fails() {
    if env::var_os(ON_FAILING_DISK).is_none() {
        return;
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG);
    subscriber.with_ansi(false).with_writer(move || writer.clone()).init();
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    let sessions = harness.plugin("sessions");
    call(&sessions, "fill", r#"{"from": 0, "count": 500}"#);
    harness.host.pause_sweep(&name(), true);
    deploy(&mut harness, 2);
    wait_until("the commit", || table(&harness, "sessions").schema == 2);

    limit_files("0");
    harness.host.pause_sweep(&name(), false);
    let problem = harness.expect("the problem", |event| of_problem(&event.kind).is_some());
    assert_eq!(of_problem(&problem.kind).map(|failure| failure.code), Some("table.store_failed"));
    let before = log.sweeps();
    // sleep: what must not happen has no other end.
    thread::sleep(Duration::from_millis(2500));
    // After one second, and two after that; in each turn of the loop there would be 25.
    let again = log.sweeps() - before;
    assert!((1..=2).contains(&again), "{again} times");
    assert!(sessions.call("touch", b"t1").is_err(), "the disk takes nothing");
    assert_eq!(audit(&sessions), (500, 0, 0), "what there was is served");

    limit_files("unlimited");
    drop(sessions);
    let (events, home) = harness.shutdown();
    let told = events.iter().filter_map(|event| of_problem(&event.kind));
    assert!(told.filter(|failure| failure.message.contains("sweep")).count() <= 1, "{events:#?}");
    let mut harness = Harness::again(home, kept_by_the_process);
    harness.published("sessions@2.0.0");
    swept(&harness, 2);
    assert_eq!(audit(&harness.plugin("sessions")), (500, 0, 0));
}

#[test]
fn a_sweep_on_a_disk_that_fails_is_said_once_and_rests_before_it_is_tried_again() {
    // Whoever writes too much is sent a signal, which a shell can have ignored.
    let mut child = Command::new("sh");
    child.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(env::current_exe().expect("this test"));
    child.args(["--exact", "child_sweeps_on_a_disk_that_fails"]).env(ON_FAILING_DISK, "yes");
    let output = child.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Once, a plugin whose store was gone began with empty tables, and nobody was
/// told.
#[test]
fn tables_whose_store_is_gone_or_older_are_refused_until_the_loss_is_accepted() {
    let _alone = alone();
    let mut harness = Harness::with(kept_by_the_process);
    deploy(&mut harness, 1);
    call(&harness.plugin("sessions"), "fill", r#"{"from": 0, "count": 10}"#);
    let home = harness.shutdown().1;
    let (store, aside) = (home.path().join("data/tables/sessions"), home.path().join("aside"));
    fs::rename(&store, &aside).expect("is there");

    let mut harness = Harness::again(home, kept_by_the_process);
    let failure = harness.not_deployed("sessions@1.0.0");
    assert_eq!(failure.code, "table.store_replaced", "{failure}");
    assert!(failure.message.contains("tables/sessions"), "{failure}");
    let home = harness.shutdown().1;
    fs::rename(&aside, &store).expect("nothing was made in its place");
    let mut harness = Harness::again(home, kept_by_the_process);
    harness.published("sessions@1.0.0");
    assert_eq!(audit(&harness.plugin("sessions")), (10, 0, 0));

    let home = harness.shutdown().1;
    fs::remove_dir_all(&store).expect("is there");
    let mut harness = Harness::again(home, |host| kept_by_the_process(host).accept_table_loss(true));
    harness.published("sessions@1.0.0");
    assert_eq!(audit(&harness.plugin("sessions")), (0, 0, 0));
}

/// A host that ends within two seconds, whose sessions are on a disk that can hang.
fn impatient(host: HostBuilder) -> HostBuilder {
    on_probation(kept_by_the_process(host)).shutdown_timeout(Duration::from_secs(2))
}

fn hang(harness: &Harness) -> HangingDisk {
    wait_until("the end of commits before", || !has_thread(COMMIT));
    HangingDisk::below(&harness.data_dir().join("tables/sessions"))
}

/// A host in which 2.0.0 serves, on probation.
fn upgraded() -> Harness {
    let mut harness = Harness::with(impatient);
    deploy(&mut harness, 1);
    deploy(&mut harness, 2);
    harness
}

/// Somebody who goes back, and has got so far that the version before serves. What they
/// are told is its major version.
fn goes_back(harness: &mut Harness) -> thread::JoinHandle<u64> {
    let host = harness.host.clone();
    let goes_back = thread::spawn(move || host.roll_back(&name(), None).expect("went back").to.version.major);
    harness.expect("going back", |event| matches!(event.kind, EventKind::RolledBack { .. }));
    goes_back
}

/// Ends the probation, up to the commit of its tables.
fn end_probation(harness: &mut Harness) {
    harness.host.commit(&name()).wait().expect("ends the probation");
    harness.unloaded("sessions@1.0.0");
    wait_until("the commit", || has_thread(COMMIT));
}

/// Another plugin is deployed and goes back, and the host ends in time.
fn others_are_served(mut harness: Harness) {
    let threads = "threads".parse().expect("a name");
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    let back = harness.host.roll_back(&threads, None).expect("goes back");
    assert_eq!(back.to.version.to_string(), "1.0.0");
    harness.unloaded("threads@2.0.0");
    ends_in_time(harness);
}

fn ends_in_time(harness: Harness) -> TempDir {
    let begun = Instant::now();
    let (events, home) = harness.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let is_told = |kind: &EventKind| matches!(kind, EventKind::HostProblem { .. });
    assert!(events.iter().any(|event| is_told(&event.kind)), "tables were not closed: {events:#?}");
    home
}

/// Once, the command loop waited for the disk, and with it all plugins.
#[test]
fn a_disk_that_hangs_when_a_probation_ends_holds_up_no_other_plugin() {
    let _alone = alone();
    let mut harness = upgraded();
    let _disk = hang(&harness);
    end_probation(&mut harness);
    others_are_served(harness);
}

/// Once, whoever asked kept the right to change the plugin meanwhile, for which the
/// command loop waited in turn.
#[test]
fn a_disk_that_hangs_when_a_plugin_goes_back_holds_up_no_other_plugin() {
    let _alone = alone();
    let mut harness = upgraded();
    let disk = hang(&harness);
    let goes_back = goes_back(&mut harness);
    others_are_served(harness);
    drop(disk);
    assert_eq!(goes_back.join().expect("does not panic"), 1);
}

/// Once, whoever took the next step first dropped its failure, and the choice was
/// answered as if it had been carried out, and kept.
#[test]
fn a_choice_that_waits_for_a_way_back_and_is_refused_then_is_told_so() {
    let _alone = alone();
    let mut harness = upgraded();
    let disk = hang(&harness);
    let goes_back = goes_back(&mut harness);
    let other = artifacts::of_another_abi_stable(&artifacts::plugin("sessions-v3"));
    fs::write(harness.plugin_dir().join("sessions-3.0.0.so"), other).expect("writes");
    harness.expect("finding it", |event| {
        matches!(event.kind, EventKind::Found { .. }) && is(event, "sessions@3.0.0")
    });
    let chosen = harness.host.activate(&name(), Some("3.0.0".parse().expect("a version")));
    // What is asked after it is answered before it.
    harness.host.save_state().wait().expect("there is none");
    drop(disk);
    match chosen.wait() {
        Err(HostError::Failed(failure)) => assert_eq!(failure.code, "abi.header", "{failure}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(goes_back.join().expect("does not panic"), 1);
}

/// Once, a host that ended waited for the disk for as long as that liked.
#[test]
fn a_disk_that_hangs_when_a_trial_ends_with_the_host_does_not_keep_that() {
    let _alone = alone();
    let mut harness = Harness::with(impatient);
    deploy(&mut harness, 1);
    harness.activate("sessions", "1.0.0").expect("stays");
    harness.drop_file(How::Rename, &artifacts::plugin("sessions-v2"), "sessions-2.0.0.so");
    harness.expect("passing over it", |event| matches!(event.kind, EventKind::Superseded { .. }));
    let half = Share::from_basis_points(5_000).expect("a share");
    harness.host.try_version(&name(), "2.0.0".parse().expect("a version"), half).wait().expect("is tried");
    let _disk = hang(&harness);
    ends_in_time(harness);
}

/// Once, it was said that another version waited, and none did.
#[test]
fn a_trial_waits_until_the_tables_are_settled() {
    let _alone = alone();
    let mut harness = upgraded();
    let disk = hang(&harness);
    end_probation(&mut harness);
    let half = Share::from_basis_points(5_000).expect("a share");
    let tried = harness.host.try_version(&name(), "1.0.0".parse().expect("a version"), half);
    // What is asked after it is answered before it.
    harness.host.save_state().wait().expect("there is none");
    drop(disk);
    // Its store has failed by now.
    match tried.wait() {
        Err(HostError::Failed(failure)) => assert_ne!(failure.code, "gate.busy", "{failure}"),
        other => panic!("{other:?}"),
    }
}

/// Once, another host began with stores that this one was still writing to.
#[test]
fn a_data_directory_is_locked_until_a_disk_that_hangs_lets_its_tables_be_closed() {
    let _alone = alone();
    let mut harness = upgraded();
    let disk = hang(&harness);
    end_probation(&mut harness);
    let home = ends_in_time(harness);
    let again = || Host::builder(home.path().join("plugins")).data_dir(home.path().join("data")).start();
    assert!(matches!(again().map(drop), Err(HostError::Locked { .. })));
    drop(disk);
    wait_until("the end of the first host", || again().is_ok());
}

/// Stops whoever tells that a plugin went back: the pointer is stored, and its
/// tables do not know yet.
struct StopsWhenTold {
    told: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for StopsWhenTold {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if String::from_utf8_lossy(line).contains("rolled_back") {
            self.told.send(()).expect("the test waits");
            self.go_on.recv().expect("the test lets it go on");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Once, its tables were closed before they knew, and what stays was written to a
/// data directory that was another host's by then.
#[test]
fn a_host_that_ends_waits_for_a_plugin_that_goes_back() {
    let _alone = alone();
    let reader = || tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_ansi(false);
    // With fewer than two it would depend on who tells something first.
    let _others = [reader(), reader()].map(|reader| reader.with_writer(io::sink).finish().set_default());
    let mut harness = Harness::with(|host| on_probation(kept_by_the_process(host)));
    deploy(&mut harness, 1);
    deploy(&mut harness, 2);
    let ((told, is_told), (let_go_on, go_on)) = (channel(), channel());
    let host = harness.host.clone();
    let goes_back = thread::spawn(move || {
        let writer = Mutex::new(StopsWhenTold { told, go_on });
        let _stops = reader().with_writer(writer).finish().set_default();
        host.roll_back(&name(), None).map(|back| back.to.version.major)
    });
    is_told.recv_timeout(PATIENCE).expect("goes back");
    let mut events = harness.host.events_since(1);
    let ends = thread::spawn(move || harness.shutdown());
    let mut unloaded = 0;
    while unloaded < 2 {
        match events.next_within(PATIENCE) {
            Next::Event(event) => unloaded += usize::from(matches!(event.kind, EventKind::Unloaded { .. })),
            other => panic!("{other:?}"),
        }
    }
    // sleep: what must not happen has no other end.
    thread::sleep(Duration::from_millis(200));
    assert!(!ends.is_finished(), "its tables do not know yet");
    let_go_on.send(()).expect("it waits");
    assert_eq!(goes_back.join().expect("does not panic").expect("went back"), 1);
    let (events, home) = ends.join().expect("does not panic");
    assert!(!events.iter().any(|event| of_problem(&event.kind).is_some()), "{events:#?}");
    Harness::again(home, kept_by_the_process).published("sessions@1.0.0");
}
