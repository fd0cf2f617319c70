//! Versions that leave: unmapped with proof, or resident with the reason.

use replug_host::event::EventKind;
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    load::Load,
};
use serde_json::json;
use std::{fs, sync::mpsc, thread, time::Duration};

/// Executable mappings of private copies in this process.
fn private_mappings(harness: &Harness) -> usize {
    let private = harness.data_dir().join("private").display().to_string();
    let maps = fs::read_to_string("/proc/self/maps").expect("reads");
    maps.lines().filter(|line| line.contains(&private) && line.contains("r-xp")).count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("reads").count()
}

#[test]
fn thread_locals_current_thread_spawned_threads_and_pools_do_not_keep_a_version() {
    let mut harness = Harness::new();
    let (first, second) = (artifacts::plugin("threads-v1"), artifacts::plugin("threads-v2"));
    harness.deploy(&first, "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    let load = Load::start(3, move |_, turn, _| {
        threads.call("churn", format!("someone{turn}@example.org").as_bytes())?;
        if turn % 16 == 0 {
            threads.call("parallel", b"100")?;
            threads.call("echo", b"through a socket")?;
        }
        Ok(())
    });
    load.wait_for(100);
    harness.drop_file(How::Rename, &second, "threads-2.0.0.so");
    harness.published("threads@2.0.0");
    harness.unloaded("threads@1.0.0");
    for swap in 0..20 {
        let (to, from) = if swap % 2 == 0 { ("1.0.0", "2.0.0") } else { ("2.0.0", "1.0.0") };
        harness.activate("threads", to).expect("activates");
        load.wait_for(30);
        harness.unloaded(&format!("threads@{from}"));
    }
    assert_eq!(private_mappings(&harness), 1);
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    harness.shutdown();
}

/// Once, such a version was shown as detaching and nothing more, and counted
/// nowhere.
#[test]
fn a_version_whose_destructors_hang_is_resident_until_they_return() {
    let folder = tempfile::tempdir().expect("a directory");
    let end = folder.path().join("end");
    let mut harness = Harness::new();
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let hostile = harness.plugin("hostile");
    let hang = json!({ "local_hangs": { "until_file": end } }).to_string();
    let (replaced, go_on) = mpsc::channel::<()>();
    let caller = thread::spawn(move || {
        hostile.call("fault", hang.as_bytes()).expect("leaves the thread-local");
        let _ = go_on.recv();
        // Its next call, wherever to, makes this thread leave the old version.
        hostile.call("count", b"").map(drop)
    });
    wait_until("the call's end", || harness.plugin("hostile").counters().calls > 0);
    harness.deploy(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so", "hostile@2.0.0");
    drop(replaced);
    let resident = harness.expect("naming it", |event| {
        matches!(event.kind, EventKind::Resident { .. }) && is(event, "hostile@1.0.0")
    });
    assert!(format!("{resident:?}").contains("thread-local destructors"), "{resident:?}");
    assert_eq!(harness.host.status().residents, 1);
    fs::write(&end, b"").expect("writes");
    caller.join().expect("does not panic").expect("is answered");
    harness.unloaded("hostile@1.0.0");
    wait_until("nothing being resident", || harness.host.status().residents == 0);
}

#[test]
fn a_thousand_reloads_leave_memory_files_and_mappings_as_they_were() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.unloaded("markdown@1.0.0");
    let before = open_files();
    let mut memory_kib = 0;
    for reload in 0..1000 {
        if reload == 200 {
            memory_kib = resident_kib();
        }
        let to = if reload % 2 == 0 { "1.0.0" } else { "2.0.0" };
        harness.activate("markdown", to).expect("activates");
        harness.plugin("markdown").call("render", b"*x*").expect("renders");
    }
    wait_until("all of them being proven to be gone", || {
        harness.host.status().plugin("markdown").is_some_and(|plugin| plugin.unloads_proven == 1001)
    });
    assert_eq!(private_mappings(&harness), 1);
    // A library that stayed would cost some 500 kB each time.
    let grown_kib = resident_kib().saturating_sub(memory_kib);
    assert!(grown_kib < 64 * 1024, "{grown_kib} KiB more after 800 reloads");
    assert!(open_files() <= before + 2, "{} open files, {before} before", open_files());
}

/// A finaliser in Rust runs inside `dlclose`, after the host took the list of
/// what to free: what it dropped was freed twice, and so was the array that the
/// plugin's allocator moved when the finaliser allocated.
#[test]
fn finalisers_that_drop_and_allocate_free_nothing_twice() {
    let mut harness = Harness::new();
    let first = artifacts::hostile("hostile-finaliser");
    // The same plugin under the next version, by one digit of its file.
    let folder = tempfile::tempdir().expect("a folder");
    let second = folder.path().join("finaliser.so");
    fs::write(&second, artifacts::changed(&first, b"1.70.31", b"1.70.32")).expect("writes");
    harness.deploy(&first, "first.so", "finaliser@1.70.31");
    harness.plugin("finaliser").call("fill", b"").expect("fills");
    harness.deploy(&second, "second.so", "finaliser@1.70.32");
    for swap in 0..300 {
        let to = if swap % 2 == 0 { "1.70.31" } else { "1.70.32" };
        harness.plugin("finaliser").call("fill", b"").expect("fills");
        harness.activate("finaliser", to).expect("activates");
    }
    wait_until("all of them being proven to be gone", || {
        harness.host.status().plugin("finaliser").is_some_and(|plugin| plugin.unloads_proven == 301)
    });
}

#[test]
fn a_call_that_runs_on_keeps_its_version_and_holds_up_nothing_else() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.deploy(&artifacts::plugin("threads-v1"), "threads-1.0.0.so", "threads@1.0.0");
    let threads = harness.plugin("threads");
    let slow = thread::spawn(move || threads.call("slow", br#"{"ms": 6000}"#));
    wait_until("the call being in flight", || {
        harness.host.status().plugin("threads").is_some_and(|plugin| plugin.in_flight > 0)
    });
    harness.deploy(&artifacts::plugin("threads-v2"), "threads-2.0.0.so", "threads@2.0.0");
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    let status = harness.host.status();
    let unloading = &status.plugin("threads").expect("known").unloading;
    assert!(unloading.iter().any(|version| version.stage == "draining"), "{unloading:?}");
    slow.join().expect("does not panic").expect("is answered by its version");
    harness.unloaded("threads@1.0.0");
}

#[test]
fn a_lease_keeps_its_version_and_status_names_the_holder() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    let lease = harness.plugin("markdown").lease("the test").expect("serves");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    wait_until("the holder being shown", || {
        let status = harness.host.status();
        let unloading = status.plugin("markdown").map(|plugin| plugin.unloading.clone()).unwrap_or_default();
        unloading.iter().flat_map(|version| &version.leases).any(|lease| lease.holder == "the test")
    });
    assert_eq!(private_mappings(&harness), 2);
    drop(lease);
    harness.unloaded("markdown@1.0.0");
}

#[test]
fn a_plugin_thread_that_outlives_stop_keeps_the_version_by_name_until_it_ends() {
    let config = json!({ "only_version": "1.0.0", "faults": { "activate": { "linger": { "ms": 2500 } } } });
    let mut harness =
        Harness::with(|options| options.config("hostile", config).threads_timeout(Duration::from_millis(50)));
    // Both are built before the first one's thread begins to wait.
    let (first, second) = (artifacts::hostile("hostile-v1"), artifacts::hostile("hostile-v2"));
    harness.deploy(&first, "hostile-1.0.0.so", "hostile@1.0.0");
    harness.deploy(&second, "hostile-2.0.0.so", "hostile@2.0.0");
    let event = harness.expect("naming it", |event| {
        matches!(event.kind, EventKind::Resident { .. }) && is(event, "hostile@1.0.0")
    });
    assert!(format!("{event:?}").contains("threads still run"), "{event:?}");
    assert_eq!(harness.host.status().residents, 1);
    harness.unloaded("hostile@1.0.0");
}

#[test]
fn above_the_cap_of_resident_versions_deployments_are_refused() {
    let config = json!({ "only_version": "1.0.0", "faults": { "activate": { "linger": { "ms": 4000 } } } });
    let mut harness = Harness::with(|options| {
        options.config("hostile", config).threads_timeout(Duration::from_millis(20)).residents_max(1)
    });
    // Both are built before the first one's thread begins to wait.
    let (first, second) = (artifacts::hostile("hostile-v1"), artifacts::hostile("hostile-v2"));
    harness.deploy(&first, "hostile-1.0.0.so", "hostile@1.0.0");
    harness.deploy(&second, "hostile-2.0.0.so", "hostile@2.0.0");
    harness.expect("naming it", |event| matches!(event.kind, EventKind::Resident { .. }));
    harness.drop_file(How::Rename, &artifacts::plugin("markdown-v1"), "markdown-1.0.0.so");
    assert_eq!(harness.not_deployed("markdown@1.0.0").code, "unload.cap_reached");
}

/// Ends a plugin by deleting its file, and answers what became of its version.
fn end(harness: &mut Harness, file: &str, version: &str) -> EventKind {
    harness.delete(file);
    let event = harness.expect("its end", |event| {
        matches!(event.kind, EventKind::Unloaded { .. } | EventKind::Resident { .. }) && is(event, version)
    });
    event.kind.clone()
}

/// Likewise, for one that this keeps: when the machine is slow something else may be
/// named before.
fn end_kept_by(harness: &mut Harness, file: &str, version: &str, pin: &str) {
    harness.delete(file);
    harness.expect(pin, |event| {
        let keeps = |pins: &Vec<String>| pins.iter().any(|known| known.contains(pin));
        matches!(&event.kind, EventKind::Resident { pins } if keeps(pins)) && is(event, version)
    });
}

/// One test, because it looks at what the whole process has mapped: the plugin
/// links `libhostile_tls.so`, which the ledger cannot see into.
#[test]
fn cpp_thread_locals_keep_no_plugin_and_the_library_that_they_keep_is_named() {
    let library = artifacts::hostile("hostile-cpp");
    let mut harness = Harness::new();
    let round = |harness: &mut Harness, method: &'static str| {
        harness.deploy(&library, "cpp.so", "cpp@1.0.0");
        let plugin = harness.plugin("cpp");
        let (leave, stay) = mpsc::channel::<()>();
        let (called, is_called) = mpsc::channel();
        let thread = thread::spawn(move || {
            called.send(plugin.call(method, b"").map(drop)).expect("the test waits");
            stay.recv().expect_err("nothing is sent");
        });
        is_called.recv().expect("the thread lives").expect("touches its thread-local");
        let ended = end(harness, "cpp.so", "cpp@1.0.0");
        let EventKind::Unloaded { companions, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(private_mappings(harness), 0);
        assert_eq!(companions.iter().any(|file| file.ends_with(CPP_LIBRARY)), is_mapped(CPP_LIBRARY));
        drop(leave);
        thread.join().expect("does not panic");
        is_mapped(CPP_LIBRARY)
    };
    for _ in 0..20 {
        assert!(!round(&mut harness, "linked"), "nothing is kept, although the thread lived");
    }
    assert!(round(&mut harness, "shared"), "the thread that used it lived when it was closed");
    assert!(!round(&mut harness, "linked"), "now that it has ended the next close takes the library along");
}

const CPP_LIBRARY: &str = "libhostile_tls.so";

fn is_mapped(library: &str) -> bool {
    fs::read_to_string("/proc/self/maps").expect("reads").contains(library)
}

#[test]
fn a_destructor_registered_past_the_ledger_keeps_the_version_until_its_thread_ends() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    let plugin = harness.plugin("hostile");
    let (leave, stay) = mpsc::channel::<()>();
    let (pinned, is_pinned) = mpsc::channel();
    let thread = thread::spawn(move || {
        pinned.send(plugin.call("fault", br#""pin""#).map(drop)).expect("the test waits");
        // Until the sender is gone.
        stay.recv().expect_err("nothing is sent");
    });
    is_pinned.recv().expect("the thread lives").expect("pins");
    let pin = "the loader keeps it: a unique symbol, another dlopen, or a thread-local destructor";
    end_kept_by(&mut harness, "hostile-1.0.0.so", "hostile@1.0.0", pin);
    assert_eq!(harness.host.status().residents, 1);
    assert_eq!(private_mappings(&harness), 1);
    drop(leave);
    thread.join().expect("does not panic");
    harness.unloaded("hostile@1.0.0");
    assert_eq!(private_mappings(&harness), 0);
}

#[test]
fn a_signal_handler_keeps_its_version_by_name_until_another_takes_its_place() {
    let library = artifacts::hostile("hostile-signal");
    let mut harness = Harness::new();
    harness.deploy(&library, "signal.so", "signal@1.0.0");
    harness.plugin("signal").call("install", b"").expect("installs");
    end_kept_by(&mut harness, "signal.so", "signal@1.0.0", "it handles signal");
    harness.deploy(&library, "signal.so", "signal@1.0.0");
    harness.plugin("signal").call("restore", b"").expect("restores");
    harness.unloaded("signal@1.0.0");
    wait_until("nothing being resident", || harness.host.status().residents == 0);
}

#[test]
fn a_global_pool_whose_threads_never_end_keeps_its_version_and_names_them() {
    let mut harness = Harness::with(|options| {
        options.threads_timeout(Duration::from_millis(50)).shutdown_timeout(Duration::from_millis(50))
    });
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.plugin("hostile").call("fault", br#""rayon_global""#).expect("starts");
    end_kept_by(&mut harness, "hostile-1.0.0.so", "hostile@1.0.0", "threads still run");
    // It stays mapped, its threads live on, and another copy serves.
    assert_eq!(private_mappings(&harness), 1);
    harness.deploy(&artifacts::hostile("hostile-v2"), "hostile-2.0.0.so", "hostile@2.0.0");
    harness.plugin("hostile").call("add", b"1").expect("serves");
}
