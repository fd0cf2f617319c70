//! Versions that leave: unmapped with proof, or resident with the reason.

use replug_host::event::EventKind;
use replug_tests::{
    artifacts,
    harness::{Harness, How, is, wait_until},
    load::Load,
};
use serde_json::json;
use std::{fs, thread, time::Duration};

/// Executable mappings of private copies in this process.
fn private_mappings(harness: &Harness) -> usize {
    let private = harness.data_dir().join("private").display().to_string();
    let maps = fs::read_to_string("/proc/self/maps").expect("reads");
    maps.lines().filter(|line| line.contains(&private) && line.contains("r-xp")).count()
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

#[test]
fn a_thousand_reloads_leave_files_and_mappings_as_they_were() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    harness.deploy(&artifacts::plugin("markdown-v2"), "markdown-2.0.0.so", "markdown@2.0.0");
    harness.unloaded("markdown@1.0.0");
    let before = open_files();
    for reload in 0..1000 {
        let to = if reload % 2 == 0 { "1.0.0" } else { "2.0.0" };
        harness.activate("markdown", to).expect("activates");
        harness.plugin("markdown").call("render", b"*x*").expect("renders");
    }
    wait_until("all of them being proven to be gone", || {
        harness.host.status().plugin("markdown").is_some_and(|plugin| plugin.unloads_proven == 1001)
    });
    assert_eq!(private_mappings(&harness), 1);
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
