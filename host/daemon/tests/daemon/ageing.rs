//! What comes later than it should: older versions, and other bytes of one that served.

use crate::{
    process::text,
    signing::{Signer, drop_signed, library, plugins, refused, serves, trusting, upgraded, within_ms},
};
use replug_tests::{artifacts, harness::wait_until};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

#[test]
fn an_older_signed_version_is_refused_without_a_rollback_intent() {
    let signer = Signer::new();
    let mut daemon = trusting(&signer, "");
    let (first, second) = (library(&daemon, "markdown-v1"), library(&daemon, "markdown-v2"));
    drop_signed(&daemon, &signer, &second, "markdown.so");
    wait_until("the second serving", || serves(&daemon, "2.0.0"));
    // In its place, and beside it when that is gone.
    drop_signed(&daemon, &signer, &first, "markdown.so");
    let event = refused(&daemon, "markdown.so", "trust.older");
    assert!(event.contains("older than 2.0.0, which has served here"), "{event}");
    assert!(serves(&daemon, "2.0.0"), "it serves on");
    assert_eq!(daemon.terminate(), Some(0));
    daemon.start_again();
    refused(&daemon, "markdown.so", "trust.older");
    assert!(!serves(&daemon, "1.0.0"));
    // The intent.
    let activated = daemon.verb(&["activate", "markdown", "1.0.0"]);
    assert!(activated.status.success(), "{}", text(&activated.stderr));
    assert!(serves(&daemon, "1.0.0"));
    assert_eq!(daemon.terminate(), Some(0));
    daemon.start_again();
    wait_until("what was gone back to serving again", || serves(&daemon, "1.0.0"));
}

#[test]
fn the_same_version_with_other_bytes_is_refused_in_production_also_after_its_file_is_gone() {
    let signer = Signer::new();
    let mut daemon = trusting(&signer, "");
    let first = library(&daemon, "markdown-v1");
    let other = artifacts::with_other_bytes(&first, daemon.home().join("other"));
    fs::set_permissions(&other, Permissions::from_mode(0o644)).expect("is ours");
    drop_signed(&daemon, &signer, &first, "markdown.so");
    wait_until("it serving", || serves(&daemon, "1.0.0"));
    drop_signed(&daemon, &signer, &other, "other.so");
    refused(&daemon, "other.so", "deploy.same_version");
    assert_eq!(daemon.terminate(), Some(0));
    for name in ["markdown.so", "other.so"] {
        fs::remove_file(plugins(&daemon).join(name)).expect("is there");
    }
    daemon.start_again();
    drop_signed(&daemon, &signer, &other, "again.so");
    refused(&daemon, "again.so", "deploy.same_version");
    drop_signed(&daemon, &signer, &first, "markdown.so");
    wait_until("the library that the version names serving", || serves(&daemon, "1.0.0"));
}

#[test]
fn a_choice_whose_file_went_lets_no_older_version_in_later() {
    let signer = Signer::new();
    let mut daemon = within_ms(1, &signer, "");
    let [first, _] = upgraded(&daemon, &signer, ["markdown-1.0.0.so", "markdown-2.0.0.so"]);
    let activated = daemon.verb(&["activate", "markdown", "1.0.0"]);
    assert!(activated.status.success(), "{}", text(&activated.stderr));
    assert_eq!(daemon.terminate(), Some(0));
    fs::remove_file(plugins(&daemon).join("markdown-1.0.0.so")).expect("is there");
    daemon.start_again();
    wait_until("the second serving", || serves(&daemon, "2.0.0"));
    drop_signed(&daemon, &signer, &first, "markdown-1.0.0.so");
    refused(&daemon, "markdown-1.0.0.so", "trust.older");
    assert!(serves(&daemon, "2.0.0"));
}

#[test]
fn what_fell_back_serves_again_after_its_file_was_renamed_or_was_not_trusted_for_a_while() {
    let signer = Signer::new();
    let mut daemon = within_ms(1, &signer, "");
    upgraded(&daemon, &signer, ["one.so", "two.so"]);
    fs::remove_file(plugins(&daemon).join("two.so")).expect("is there");
    wait_until("the first serving again", || serves(&daemon, "1.0.0"));
    let renamed = |name: &str| plugins(&daemon).join(name);
    fs::rename(renamed("one.so.minisig"), renamed("other.so.minisig")).expect("renames");
    fs::rename(renamed("one.so"), renamed("other.so")).expect("renames");
    wait_until("it being seen", || text(&daemon.verb(&["events"]).stdout).contains("other.so"));
    assert_eq!(daemon.terminate(), Some(0));
    fs::set_permissions(plugins(&daemon), Permissions::from_mode(0o777)).expect("is ours");
    daemon.start_again();
    refused(&daemon, "plugins has mode 0777", "trust.writable");
    assert!(!serves(&daemon, "1.0.0"));
    fs::set_permissions(plugins(&daemon), Permissions::from_mode(0o755)).expect("is ours");
    wait_until("it serving after all", || serves(&daemon, "1.0.0"));
    assert!(!text(&daemon.verb(&["events"]).stdout).contains("trust.older"));
}
