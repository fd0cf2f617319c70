//! What a version leaves with others when it goes: wakers, calls, handlers,
//! thread-locals. The process survives it, and nothing of it stays.

use replug_host::{CallFuture, CallOptions, Plugin, event::EventKind};
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Waker},
    thread,
    time::Duration,
};

fn is_pending(call: &mut Pin<Box<CallFuture>>) -> bool {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Makes the plugin `waker` call another, on a thread of its own.
fn ask(harness: &Harness, body: &serde_json::Value) -> thread::JoinHandle<String> {
    let (waker, body) = (harness.plugin("waker"), body.to_string());
    thread::spawn(move || {
        let reply = waker.call("ask", body.as_bytes()).expect("answers");
        reply.text().expect("text").to_owned()
    })
}

fn gate_is_closed(plugin: &Plugin) -> bool {
    is_pending(&mut Box::pin(plugin.call_async("count", b"", CallOptions::default())))
}

fn retired(harness: &mut Harness, version: &str) {
    harness.expect("retiring it", |event| matches!(event.kind, EventKind::Retired) && is(event, version));
}

/// One plugin's async method calls another at whose closed gate it waits. Its
/// caller gives up, its version is unmapped, and only then does the gate open:
/// the waker that waited there pointed into what is no longer mapped.
fn a_waker_at_the_gate(forget: bool) {
    let signals = tempfile::tempdir().expect("a directory");
    let after = signals.path().join("after");
    let mut harness = Harness::with(|options| {
        options.quiesce_timeout(Duration::from_secs(20)).gate_timeout(Duration::from_secs(25))
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.deploy(&artifacts::hostile("hostile-waker"), "waker.so", "waker@1.0.0");
    let hostile = harness.plugin("hostile");
    let ask = json!({ "plugin": "hostile", "method": "count", "after": after, "forget": forget });
    let asking = self::ask(&harness, &ask);
    wait_until("the plugin being asked", || {
        harness.host.status().plugin("waker").is_some_and(|plugin| plugin.in_flight > 0)
    });
    harness.delete("waker.so");
    retired(&mut harness, "waker@1.0.0");
    // It keeps the gate closed for as long as the test wants.
    let lease = hostile.lease("the test").expect("serves");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v2"), "hostile-2.0.0.so");
    wait_until("the gate being closed", || gate_is_closed(&hostile));
    fs::write(&after, "go on").expect("writes");
    assert_eq!(asking.join().expect("does not panic"), "waits");
    harness.unloaded("waker@1.0.0");
    assert!(gate_is_closed(&hostile));
    drop(lease);
    harness.published("hostile@2.0.0");
    assert_eq!(hostile.call("count", b"").expect("serves").text(), Ok("0"));
    harness.unloaded("hostile@1.0.0");
}

#[test]
fn a_waker_of_an_unmapped_plugin_is_not_woken_when_a_gate_opens() {
    a_waker_at_the_gate(false);
}

#[test]
fn a_waker_in_a_future_that_its_author_forgot_is_not_woken_either() {
    a_waker_at_the_gate(true);
}

/// A thread-local whose destructor ran is dead for as long as its thread lives.
/// The hook thread detached between `prepare` and `activate`, and the thread
/// that unloads between `stop` and the drop: whatever was used on both sides
/// panicked in the second.
#[test]
fn thread_locals_live_from_the_first_hook_of_a_thread_to_its_last() {
    let marks = tempfile::tempdir().expect("a directory");
    let locals = |file: &str| json!({ "locals": marks.path().join(file) });
    let hooks: serde_json::Map<_, _> =
        ["prepare", "restore", "activate", "self_test", "freeze", "export", "stop", "drop"]
            .map(|hook| (hook.to_owned(), locals(hook)))
            .into_iter()
            .collect();
    let mut harness = Harness::with(|options| options.config("hostile", json!({ "faults": hooks })));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.deploy(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so", "hostile@2.0.0");
    harness.unloaded("hostile@1.0.0");
    harness.delete("hostile-2.0.0.so");
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-again.so", "hostile@1.0.0");
    harness.unloaded("hostile@2.0.0");
    for hook in hooks.keys() {
        assert!(marks.path().join(hook).exists(), "{hook} could not use its thread-locals");
    }
    // Both by the thread that unloads, which was never there before.
    assert_eq!(fs::read_to_string(marks.path().join("stop")).expect("reads"), "1\n1\n");
    assert_eq!(fs::read_to_string(marks.path().join("drop")).expect("reads"), "2\n2\n");
}

/// The private copies were looked for under the path that they were opened by,
/// and the kernel lists them by another: no handler was ever found.
fn a_signal_handler_is_found(data_dir: impl FnOnce(&Path) -> PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let data_dir = data_dir(home.path());
    let mut harness = Harness::with(|options| options.data_dir(data_dir));
    let signal = artifacts::hostile("hostile-signal");
    harness.deploy(&signal, "signal.so", "signal@1.0.0");
    let reply = harness.plugin("signal").call("install", b"").expect("installs");
    assert_eq!(reply.text(), Ok("installed"));
    harness.delete("signal.so");
    let event = harness.expect("naming it", |event| {
        matches!(event.kind, EventKind::Resident { .. }) && is(event, "signal@1.0.0")
    });
    assert!(format!("{event:?}").contains("it handles signal 12"), "{event:?}");
    harness.deploy(&signal, "again.so", "signal@1.0.0");
    harness.plugin("signal").call("restore", b"").expect("restores");
    harness.unloaded("signal@1.0.0");
}

#[test]
fn a_signal_handler_keeps_its_version_wherever_the_data_is() {
    // One after the other: signals are the process's.
    a_signal_handler_is_found(|home| home.join("data"));
    a_signal_handler_is_found(|home| {
        let link = home.join("link");
        fs::create_dir(home.join("real")).expect("makes");
        std::os::unix::fs::symlink(home.join("real"), &link).expect("links");
        link.join("data")
    });
    a_signal_handler_is_found(|home| {
        let here = std::env::current_dir().expect("has one");
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        up.join(home.strip_prefix("/").expect("is absolute")).join("data")
    });
}

#[test]
fn a_call_that_its_author_forgot_ends_with_the_authors_version() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    harness.deploy(&artifacts::hostile("hostile-waker"), "waker.so", "waker@1.0.0");
    let body = r#"{"ms": 600000}"#;
    let after = Path::new("/");
    let ask = json!({ "plugin": "threads", "method": "sleep", "body": body, "after": after, "forget": true });
    assert_eq!(self::ask(&harness, &ask).join().expect("does not panic"), "waits");
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    harness.delete("waker.so");
    harness.unloaded("waker@1.0.0");
    harness.unloaded("threads@1.0.0");
}
