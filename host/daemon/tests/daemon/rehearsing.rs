//! Versions that do not pass their rehearsal: each is refused with its cause and its step,
//! and the host that serves meanwhile is what it was.

use crate::{
    http::ask,
    process::{Daemon, text},
};
use replug_tests::{artifacts, harness::wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// A host on which hostile 1.0.0 serves, and where the plugin is configured like this.
pub(crate) fn serving(config: &Value, more: &str) -> Daemon {
    let config = inline(config);
    let daemon = Daemon::with(&format!("{more}[plugin]\nhostile = {config}\n"));
    daemon.deploy(&artifacts::hostile("hostile-v1"), "hostile@1.0.0");
    daemon
}

/// JSON as an inline table of TOML.
pub(crate) fn inline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// What goes wrong in 2.0.0 alone.
pub(crate) fn only_in_the_second(faults: Value) -> Value {
    json!({ "only_version": "2.0.0", "faults": faults })
}

/// What a process holds: open files, and memory in KiB.
fn holds(process: u32) -> (usize, u64) {
    let files = fs::read_dir(format!("/proc/{process}/fd")).expect("lives").count();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has memory");
    (files, line.split_whitespace().next().expect("a number").parse().expect("a number"))
}

/// Drops 2.0.0 while 1.0.0 is called; the event that says that it was refused. No call
/// fails, and the host holds what it held.
fn refused_under_load(daemon: &Daemon) -> Value {
    file_refused_under_load(daemon, "hostile-v2", "2.0.0")
}

/// The same for any file.
fn file_refused_under_load(daemon: &Daemon, library: &str, version: &str) -> Value {
    let (ends, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = holds(daemon.id());
    let most_files = AtomicUsize::new(0);
    let event = thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let socket = daemon.socket();
                while !ends.load(Ordering::Relaxed) {
                    let called = ask(&socket, "POST /v1/plugins/hostile/call/version", "", "");
                    assert_eq!((called.status, called.body.as_str()), (200, "hostile 1.0.0"));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                most_files.fetch_max(holds(daemon.id()).0, Ordering::Relaxed);
                thread::sleep(LOOK_EVERY); // sleep: between two looks, for the callers' sake
            }
        });
        let end = End(&ends);
        let event = refused(daemon, library, version);
        let then = calls.load(Ordering::Relaxed);
        wait_until("calls after it", || calls.load(Ordering::Relaxed) > then + 1);
        drop(end);
        event
    });
    // A connection for each caller and for the one who looks, and what a child is followed by.
    let most = before.0 + CALLERS + 12;
    assert!(most_files.load(Ordering::Relaxed) <= most, "{most_files:?} files, and {most} are usual");
    wait_until("the host holding no more files than before", || holds(daemon.id()).0 <= before.0);
    let gained = holds(daemon.id()).1.saturating_sub(before.1);
    assert!(gained < 32 * 1024, "{gained} KiB");
    let left = fs::read_dir(daemon.home().join("data/rehearsals")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of it stays on the disk");
    assert_eq!(children(daemon.id()), Vec::<String>::new(), "no child stays");
    event
}

/// How often it is looked what the host holds.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Threads that call all the time.
const CALLERS: usize = 2;

/// Ends the callers, also when it is found that something is wrong.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Drops a library; the event that says that its version was refused.
fn refused(daemon: &Daemon, library: &str, version: &str) -> Value {
    daemon.drop_file(&artifacts::hostile(library), &format!("{library}.so"));
    let mut refused = Value::Null;
    wait_until(&format!("{library} being refused"), || {
        let events = text(&daemon.verb(&["events"]).stdout);
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let is_it = |event: &Value| {
            event["event"] == "deploy_failed"
                && event["version"].as_str().is_some_and(|id| id.contains(version))
        };
        refused = events.into_iter().find(is_it).unwrap_or_default();
        !refused.is_null()
    });
    refused
}

pub(crate) fn children(process: u32) -> Vec<String> {
    let found = Command::new("ps").args(["-o", "pid=,args=", "--ppid", &process.to_string()]).output();
    text(&found.expect("ps runs").stdout).lines().map(ToOwned::to_owned).collect()
}

#[track_caller]
fn assert_refused(event: &Value, code: &str, words: &[&str]) {
    assert_eq!(event["code"], code, "{event}");
    assert_eq!(event["stage"], "rehearse", "{event}");
    let message = event["message"].as_str().expect("a text");
    for words in words {
        assert!(message.contains(words), "{message} does not say {words}");
    }
}

#[track_caller]
fn is_refused(faults: Value, code: &str, words: &[&str]) {
    let daemon = serving(&only_in_the_second(faults), "");
    assert_refused(&refused_under_load(&daemon), code, words);
}

#[test]
fn a_segmentation_fault_in_any_hook_is_refused_with_the_step() {
    for (hook, step) in [
        ("prepare", "prepare"),
        ("restore", "restore"),
        ("export", "export"),
        ("self_test", "self_test"),
        ("stop", "stop"),
        ("drop", "drop"),
    ] {
        let step = format!("rehearsal, {step}: killed by SIGSEGV");
        is_refused(json!({ hook: { "crash": "segv" } }), "rehearsal.crashed", &[&step]);
    }
}

#[test]
fn a_segmentation_fault_in_a_migration_is_refused_with_the_step() {
    for (way, step) in [("up", "migrate"), ("down", "migrate_back")] {
        let daemon = serving(&json!({ "state": { way: { "crash": "segv" } } }), "");
        let step = format!("rehearsal, {step}: killed by SIGSEGV");
        assert_refused(&refused_under_load(&daemon), "rehearsal.crashed", &[&step]);
    }
}

#[test]
fn a_segmentation_fault_on_a_thread_is_refused() {
    let fault = json!({ "prepare": { "crash_on_thread": "segv" } });
    is_refused(fault, "rehearsal.crashed", &["rehearsal, prepare: killed by SIGSEGV"]);
}

#[test]
fn a_stack_overflow_is_refused() {
    let fault = json!({ "prepare": { "crash": "stack_overflow" } });
    let words = ["rehearsal, prepare: killed by SIGABRT", "overflowed its stack"];
    is_refused(fault, "rehearsal.crashed", &words);
}

#[test]
fn an_exit_is_refused_also_with_a_status_that_says_that_all_went_well() {
    let fault = json!({ "self_test": { "crash": "exit" } });
    is_refused(fault, "rehearsal.exited", &["rehearsal, self_test", "ended with status 7"]);
    let fault = json!({ "prepare": { "crash": "exit_well" } });
    is_refused(fault, "rehearsal.exited", &["rehearsal, prepare", "ended with status 0"]);
}

#[test]
fn an_infinite_loop_and_a_start_that_hangs_are_killed_at_the_time_limit() {
    for fault in ["spin", "hang"] {
        let faults = only_in_the_second(json!({ "prepare": { fault: {} } }));
        let daemon = serving(&faults, "[rehearsal]\ntimeout-ms = 5000\n");
        let event = refused_under_load(&daemon);
        assert_refused(&event, "rehearsal.timeout", &["rehearsal, prepare: not done after 5000 ms"]);
    }
}

#[test]
fn an_allocation_that_is_too_large_is_refused() {
    let fault = json!({ "prepare": { "grow": 10_u64 << 30 } });
    is_refused(
        fault,
        "rehearsal.crashed",
        &["rehearsal, prepare: killed by SIGABRT", "memory allocation of"],
    );
}

#[test]
fn memory_that_no_limit_of_the_system_knows_of_is_seen_while_it_grows() {
    let faults = only_in_the_second(json!({ "prepare": { "grow_shared": 4_u64 << 30 } }));
    let daemon = serving(&faults, "[rehearsal]\nmemory-bytes-max = 268435456\n");
    let event = refused_under_load(&daemon);
    assert_refused(&event, "rehearsal.memory", &["rehearsal, prepare: it used ", ", and may use 262144"]);
}

#[test]
fn a_file_that_is_left_open_is_refused_and_named() {
    let fault = json!({ "prepare": "leak_file" });
    let words = ["rehearsal, unload: it is unloaded and has left open /dev/null"];
    is_refused(fault, "rehearsal.leaked", &words);
}

#[test]
fn thousands_of_threads_are_refused() {
    let fault = json!({ "prepare": { "threads": 2000 } });
    is_refused(fault, "rehearsal.threads", &["rehearsal, prepare: it had ", " threads, and may have 256"]);
}

#[test]
fn closing_the_descriptors_of_others_is_refused() {
    let fault = json!({ "prepare": "close_descriptors" });
    is_refused(
        fault,
        "rehearsal.descriptors",
        &["rehearsal, prepare: it closed or used what it had not opened"],
    );
}

#[test]
fn a_signal_handler_that_is_left_behind_is_refused() {
    let fault = json!({ "prepare": "handle_signal" });
    is_refused(fault, "rehearsal.resident", &["rehearsal, unload", "signal"]);
}

#[test]
fn writing_outside_of_its_folder_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("written");
    let fault = json!({ "prepare": { "write": file } });
    is_refused(fault, "prepare.failed", &["rehearsal, prepare", "written: Permission denied"]);
    assert!(!file.exists());
}

#[test]
fn opening_the_network_and_starting_programs_is_refused() {
    let fault = json!({ "prepare": "listen" });
    is_refused(fault, "prepare.failed", &["rehearsal, prepare", "a socket: Permission denied"]);
    let fault = json!({ "self_test": "execute" });
    is_refused(fault, "self_test.failed", &["rehearsal, self_test", "another program: Permission denied"]);
}

#[test]
fn a_constructor_that_aborts_dies_in_rehearsal() {
    let daemon = serving(&json!({}), "");
    let event = file_refused_under_load(&daemon, "hostile-constructor", "constructor@");
    assert_refused(&event, "rehearsal.crashed", &["rehearsal, load: killed by SIGABRT"]);
}

#[test]
fn a_start_that_panics_is_refused_with_its_words() {
    let fault = json!({ "prepare": { "panic": "text" } });
    is_refused(fault, "hook.panicked", &["rehearsal, prepare", "hostile panic"]);
}

#[test]
fn a_failure_that_goes_on_and_on_is_told_in_part() {
    let fault = json!({ "prepare": { "fail": "so much ".repeat(100_000) } });
    let daemon = serving(&only_in_the_second(fault), "");
    let event = refused_under_load(&daemon);
    assert_refused(&event, "prepare.failed", &["rehearsal, prepare", "so much"]);
    assert!(event["message"].as_str().is_some_and(|told| told.len() < 32 * 1024));
}

#[test]
fn another_process_cannot_be_begun() {
    let fault = json!({ "prepare": "fork" });
    is_refused(fault, "prepare.failed", &["rehearsal, prepare", "a process: Permission denied"]);
}

/// What a host on which markdown 1.0.0 serves, and serves on, tells of 2.0.0 with these
/// bytes in the place of others, as many.
fn told_of_changed(from: &[u8], to: &[u8]) -> String {
    let daemon = Daemon::with("");
    daemon.deploy(&artifacts::plugin("markdown-v1"), "markdown@1.0.0");
    let changed = artifacts::changed(&artifacts::plugin("markdown-v2"), from, to);
    let beside = daemon.home().join("changed");
    fs::write(&beside, changed).expect("writes");
    daemon.drop_file(&beside, "markdown-2.0.0.so");
    let mut told = String::new();
    wait_until("it being refused", || {
        told = text(&daemon.verb(&["events"]).stdout);
        told.contains("deploy_failed")
    });
    assert!(daemon.status_of("markdown", "active").to_string().contains("1.0.0"));
    told
}

#[test]
fn a_missing_shared_dependency_is_refused_in_rehearsal_and_named() {
    let told = told_of_changed(b"libc.so.6", b"libz.so.9");
    assert!(told.contains("load.open") && told.contains("libz.so.9"), "{told}");
    assert!(told.contains("\"stage\":\"rehearse\""), "{told}");
}

#[test]
fn a_missing_symbol_is_refused_in_rehearsal_and_named() {
    let told = told_of_changed(b"\0getcwd\0", b"\0getcwx\0");
    assert!(told.contains("load.open") && told.contains("undefined symbol: getcwx"), "{told}");
    assert!(told.contains("\"stage\":\"rehearse\""), "{told}");
}
