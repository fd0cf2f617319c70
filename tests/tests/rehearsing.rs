//! Rehearsals by a helper of an embedder's own: typed interfaces, trials, checks.

use pairs::v1_2;
use replug_host::{HostError, dispatch::Share, event::EventKind, failure::Failure, rehearse::Rehearsal};
use replug_tests::{
    artifacts,
    harness::{Harness, How},
};
use serde_json::json;

fn helper(word: &str) -> Rehearsal {
    Rehearsal::by(env!("CARGO_BIN_EXE_rehearsal-helper")).arg(word)
}

/// A host with a typed interface, of which the helper may know.
fn host(word: &str) -> Harness {
    Harness::with(|host| host.interface::<dyn v1_2::Store>().rehearsal(helper(word)))
}

/// What the last rehearsal lacked.
fn absent(harness: &mut Harness) -> Vec<String> {
    let rehearsed = harness.expect("a rehearsal", |event| matches!(event.kind, EventKind::Rehearsed { .. }));
    match &rehearsed.kind {
        EventKind::Rehearsed { absent, .. } => absent.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_layout_is_refused_by_a_helper_that_knows_the_interface() {
    let mut harness = host("knowing");
    harness.drop_file(How::Rename, &artifacts::example("pairs", "store-changed"), "plugin.so");
    let failure = harness.not_deployed("store@1.1.1");
    assert_eq!(failure.code, "abi.layout_mismatch");
    assert!(failure.message.starts_with("rehearsal, load: the layout of pairs.store"), "{failure}");
}

#[test]
fn an_interface_that_the_helper_does_not_know_is_told_and_compared_by_the_host() {
    let mut harness = host("knowing nothing");
    harness.drop_file(How::Rename, &artifacts::example("pairs", "store-changed"), "plugin.so");
    let missing = absent(&mut harness);
    assert!(missing.iter().any(|one| one.starts_with("the layout of pairs.store 1.2.0: ")), "{missing:?}");
    let failure = harness.not_deployed("store@1.1.1");
    assert_eq!(failure.code, "abi.layout_mismatch");
    assert!(failure.message.starts_with("the layout of pairs.store"), "{failure}");
}

#[test]
fn an_interface_that_fits_is_not_told_as_missing() {
    let mut harness = host("knowing");
    harness.drop_file(How::Rename, &artifacts::example("pairs", "store-v1-2"), "plugin.so");
    let missing = absent(&mut harness);
    harness.published("store@1.2.0");
    assert!(!missing.iter().any(|one| one.contains("layout")), "{missing:?}");
}

#[test]
fn a_version_that_crashes_in_its_rehearsal_is_not_tried() {
    let config = json!({ "only_version": "3.0.0", "faults": { "self_test": { "crash": "segv" } } });
    let mut harness = Harness::with(|host| host.config("hostile", config).rehearsal(helper("")));
    harness.deploy(&artifacts::hostile("hostile-v1"), "hostile-1.0.0.so", "hostile@1.0.0");
    harness.activate("hostile", "1.0.0").expect("serves");
    harness.drop_file(How::Rename, &artifacts::hostile("hostile-v3"), "hostile-3.0.0.so");
    harness.expect("passing over 3.0.0", |event| matches!(event.kind, EventKind::Superseded { .. }));
    let half = Share::from_basis_points(5_000).expect("at most the whole");
    let (name, version) = ("hostile".parse().expect("a name"), "3.0.0".parse().expect("a version"));
    let refused = harness.host.try_version(&name, version, half).wait().expect_err("is refused");
    assert_eq!(refused.code().as_str(), "rehearsal.crashed", "{refused}");
    let version = harness.plugin("hostile").call("version", b"").expect("serves");
    assert_eq!(version.text(), Ok("hostile 1.0.0"));
}

#[test]
fn a_check_of_what_is_no_plugin_says_so() {
    let harness = Harness::new();
    let file = harness.data_dir().join("no plugin.so");
    std::fs::write(&file, "text").expect("writes");
    for file in [file, harness.data_dir().join("missing.so")] {
        let refused = harness.host.check(file, &helper(""), None).expect_err("is refused");
        assert!(matches!(refused, HostError::Failed(_)), "{refused}");
    }
}
