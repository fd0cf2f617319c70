//! Tables on a disk that fails, or that lost what was on it.

use replug_host::event::{EventKind, FailureReport};
use replug_tests::{
    harness::{Harness, wait_until},
    sessions::{audit, call, deploy, kept_by_the_process, name, swept, table},
};
use std::{
    env, fs,
    io::{self, Write},
    process::{Command, id},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tracing_subscriber::filter::LevelFilter;

/// Set in the process that has the disk below.
const ON_FAILING_DISK: &str = "REPLUG_TEST_ON_FAILING_DISK";

/// How large files may get: without a limit, or none of them a byte.
fn limit_files(limit: &str) {
    let of_this = ["--pid".to_owned(), id().to_string(), format!("--fsize={limit}:unlimited")];
    assert!(Command::new("prlimit").args(of_this).status().expect("runs").success());
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
