//! Saved state in an operator's hands: listed, shown, carried to another host,
//! and restored into what serves.

use replug_host::{
    HostError, Imported, Restored, SnapshotContent,
    event::{Event, EventKind},
    failure::Failure,
    id::PluginName,
    state::store::write_export,
};
use replug_tests::{
    artifacts,
    harness::{Harness, is, wait_until},
    hostile,
    load::{Load, unlimited},
};
use serde_json::json;
use std::{fs, path::PathBuf};

/// A host on which limiter 1.0.0 serves.
fn limiting() -> Harness {
    let mut harness = Harness::with(|options| options.config("limiter", unlimited()));
    deploy(&mut harness, 1);
    harness
}

fn deploy(harness: &mut Harness, major: u32) {
    let library = artifacts::plugin(&format!("limiter-v{major}"));
    harness.deploy(&library, &format!("limiter-{major}.0.0.so"), &format!("limiter@{major}.0.0"));
}

fn limiter() -> PluginName {
    "limiter".parse().expect("a name")
}

fn take(harness: &Harness, times: usize) {
    for _ in 0..times {
        harness.plugin("limiter").call("take", br#"{"key":"ada"}"#).expect("takes");
    }
}

fn count(harness: &Harness) -> u64 {
    let reply = harness.plugin("limiter").call("count", b"ada").expect("counts");
    reply.text().expect("text").parse().expect("a number")
}

/// Saves now; the number of the snapshot.
fn save(harness: &Harness) -> u64 {
    harness.host.save_state().wait().expect("saves");
    harness.host.snapshots().list(Some(&limiter())).expect("lists")[0].sequence
}

fn restore(harness: &Harness, snapshot: u64) -> Result<Restored, HostError> {
    harness.host.snapshots().restore(&limiter(), Some(snapshot)).wait()
}

fn code_of<T: std::fmt::Debug>(result: Result<T, HostError>) -> &'static str {
    result.expect_err("is refused").code().as_str()
}

/// The file of a snapshot.
fn file_of(harness: &Harness, snapshot: u64) -> PathBuf {
    let folder = fs::read_dir(harness.data_dir().join("state/limiter")).expect("is there");
    let start = format!("{snapshot:010}-");
    let mut paths = folder.map(|entry| entry.expect("an entry").path());
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
    paths.find(is_it).expect("the snapshot's file")
}

fn is_restored(event: &Event) -> bool {
    matches!(event.kind, EventKind::StateRestored { .. })
}

#[test]
fn a_snapshot_is_restored_into_what_serves_and_what_there_was_can_be_had_back() {
    let mut harness = limiting();
    take(&harness, 3);
    let three = save(&harness);
    take(&harness, 4);
    let restored = restore(&harness, three).expect("restores");
    assert_eq!(count(&harness), 3);
    assert_eq!(restored.snapshot, three);
    assert_eq!(restored.active.as_ref().map(|id| id.version.to_string()).as_deref(), Some("1.0.0"));
    assert!(restored.loss.contains("all that was written since"), "{restored:?}");
    let event = harness.expect("saying what is lost", is_restored);
    assert!(is(&event, "limiter@1.0.0"), "{event:?}");
    let EventKind::StateRestored { snapshot, loss, .. } = &event.kind else { unreachable!("just matched") };
    assert_eq!((*snapshot, loss), (three, &restored.loss));
    harness.unloaded("limiter@1.0.0");

    take(&harness, 1);
    let undone = restore(&harness, restored.before.expect("was saved")).expect("restores");
    assert_eq!(count(&harness), 7, "what was written before the first restore");
    restore(&harness, undone.before.expect("was saved")).expect("restores");
    assert_eq!(count(&harness), 4, "and what was written after it");
}

#[test]
fn a_restored_state_is_what_the_next_start_begins_with() {
    let harness = limiting();
    take(&harness, 2);
    let two = save(&harness);
    take(&harness, 5);
    let restored = restore(&harness, two).expect("restores");
    let snapshots = harness.host.snapshots();
    let newest = snapshots.read(&limiter(), None).expect("is there");
    assert_eq!(Some(newest.snapshot.sequence()), restored.newest);
    let of_two = snapshots.read(&limiter(), Some(two)).expect("is there");
    assert_eq!(newest.envelope.payload, of_two.envelope.payload);
}

/// No call is refused, and none is lost that was acknowledged: what counts is
/// either in the state that serves or in the one that was put aside.
#[test]
fn callers_see_nothing_of_a_restore_but_the_other_state() {
    let harness = limiting();
    let zero = save(&harness);
    let load = Load::takes(2, &harness.plugin("limiter"));
    load.wait_for(100);
    let restored = restore(&harness, zero).expect("restores");
    load.wait_for(100);
    let log = load.stop();
    assert!(log.failed.is_empty(), "{:?}", log.failed);
    let total = || -> u64 {
        let reply = harness.plugin("limiter").call("total", b"").expect("counts");
        reply.text().expect("text").parse().expect("a number")
    };
    let after = total();
    restore(&harness, restored.before.expect("was saved")).expect("restores");
    let before = total();
    assert_eq!(before + after, log.takes.values().sum::<u64>());
}

#[test]
fn an_older_schema_is_brought_up_and_a_newer_one_is_refused_where_no_step_leads_down() {
    let mut harness = limiting();
    take(&harness, 3);
    let old = save(&harness);
    deploy(&mut harness, 2);
    take(&harness, 1);
    let restored = restore(&harness, old).expect("restores");
    assert_eq!((restored.from_schema, restored.to_schema), (1, 2));
    assert_eq!(count(&harness), 3);

    harness.activate("limiter", "1.0.0").expect("goes back");
    let listed = harness.host.snapshots().list(Some(&limiter())).expect("lists");
    let new = listed.iter().find(|snapshot| snapshot.schema_version == 2).expect("one of each is kept");
    let refused = restore(&harness, new.sequence).expect_err("1.0.0 knows no schema 2");
    assert_eq!(refused.code().as_str(), "state.no_path");
    assert!(refused.to_string().contains("from 2 to 1"), "{refused}");
    assert_eq!(count(&harness), 3, "all is as it was");
    harness.expect("saying so", |event| matches!(event.kind, EventKind::StateProblem { .. }));
}

#[test]
fn a_restore_that_a_hook_refuses_leaves_the_state_that_there_was() {
    let config = hostile::only("1.0.0", json!({ "restore": { "fail": "no" } }));
    let harness = hostile::counting(config, |options| options);
    harness.host.save_state().wait().expect("saves");
    let name = "hostile".parse().expect("a name");
    let refused = harness.host.snapshots().restore(&name, None).wait();
    assert_eq!(code_of(refused), "hook.failed");
    hostile::kept(&harness, "1.0.0");
    // Its own file is not held against it.
    assert!(harness.host.status().plugin("hostile").expect("known").versions.iter().all(|it| !it.refused));
}

#[test]
fn a_version_whose_file_has_gone_is_restored_all_the_same() {
    let mut harness = Harness::with(|options| {
        options.config("limiter", unlimited()).removal(replug_host::RemovalPolicy::Keep)
    });
    deploy(&mut harness, 1);
    take(&harness, 2);
    let two = save(&harness);
    take(&harness, 1);
    harness.delete("limiter-1.0.0.so");
    harness.expect("the file going", |event| matches!(event.kind, EventKind::Gone { .. }));
    restore(&harness, two).expect("restores");
    assert_eq!(count(&harness), 2);
}

#[test]
fn a_snapshot_restored_while_nothing_serves_is_what_the_next_start_begins_with() {
    let mut harness = limiting();
    take(&harness, 2);
    let two = save(&harness);
    take(&harness, 5);
    harness.delete("limiter-1.0.0.so");
    harness.unloaded("limiter@1.0.0");
    let restored = restore(&harness, two).expect("restores");
    assert_eq!(restored.active, None);
    let event = harness.expect("saying so", |event| matches!(event.kind, EventKind::StateReplaced { .. }));
    assert_eq!(event.plugin.as_deref(), Some("limiter"));
    deploy(&mut harness, 1);
    assert_eq!(count(&harness), 2);
    let undone = restore(&harness, restored.before.expect("was the newest")).expect("restores");
    assert_eq!((count(&harness), undone.newest.is_some()), (7, true));
}

#[test]
fn an_exported_file_is_imported_by_another_host_before_the_plugin_is_there() {
    let first = limiting();
    take(&first, 6);
    save(&first);
    let exported = first.host.snapshots().export(&limiter(), None).expect("is there");
    let file = first.data_dir().join("limiter.state");
    write_export(&file, &exported.bytes).expect("writes");

    let mut second = Harness::with(|options| options.config("limiter", unlimited()));
    let bytes = fs::read(file).expect("is there");
    let imported = second.host.snapshots().import(&limiter(), &bytes, false).wait().expect("imports");
    let Imported { snapshot, schema_version, before, .. } = imported;
    assert_eq!((snapshot, schema_version, before), (1, 1, None));
    deploy(&mut second, 2);
    assert_eq!(count(&second), 6);
}

#[test]
fn what_cannot_be_imported_or_restored_is_refused_with_a_code_and_changes_nothing() {
    let harness = limiting();
    take(&harness, 1);
    let one = save(&harness);
    let snapshots = harness.host.snapshots();
    let bytes = snapshots.export(&limiter(), Some(one)).expect("is there").bytes;
    let gauge: PluginName = "gauge".parse().expect("a name");
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(code_of(snapshots.import(&limiter(), cut, false).wait()), "state.bad_import");
    assert_eq!(code_of(snapshots.import(&gauge, &bytes, false).wait()), "state.foreign");
    assert_eq!(code_of(restore(&harness, 99)), "state.unknown_snapshot");
    assert_eq!(code_of(snapshots.restore(&gauge, None).wait()), "state.unknown_snapshot");
    assert_eq!(snapshots.list(None).expect("lists").len(), 1, "nothing was taken in");

    let file = file_of(&harness, one);
    let mut bytes = fs::read(&file).expect("is there");
    bytes[60] ^= 1;
    fs::write(&file, bytes).expect("writes");
    assert_eq!(code_of(restore(&harness, one)), "state.corrupt");
    let listed = snapshots.list(None).expect("lists");
    let SnapshotContent::Unusable(failure) = &listed[0].content else { panic!("{listed:?}") };
    assert_eq!(failure.code, "state.corrupt");
    assert_eq!(count(&harness), 1);
}

#[test]
fn a_snapshot_is_shown_as_json() {
    let harness = limiting();
    take(&harness, 2);
    save(&harness);
    let shown = harness.host.snapshots().show(&limiter(), None).expect("is there");
    assert_eq!((shown.schema_version, shown.plugin_version.to_string().as_str()), (1, "1.0.0"));
    assert_eq!(shown.state["buckets"]["ada"]["taken"], 2);
}

#[test]
fn a_host_that_has_ended_is_asked_in_vain() {
    let harness = limiting();
    let snapshots = harness.host.snapshots();
    harness.host.shutdown().expect("runs");
    wait_until("the end", || snapshots.list(None).is_err());
    assert_eq!(code_of(snapshots.read(&limiter(), None)), "host.stopped");
    assert_eq!(code_of(snapshots.restore(&limiter(), None).wait()), "host.stopped");
}
