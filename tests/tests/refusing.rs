//! What is refused before or while it is loaded, and in which words.

use replug_tests::{
    artifacts,
    harness::{Harness, How},
};
use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener, process::Command};

#[test]
fn links_pipes_folders_and_sockets_are_refused_and_never_block() {
    let mut harness = Harness::new();
    let dir = harness.plugin_dir();
    symlink(artifacts::plugin("markdown-v1"), dir.join("link.so")).expect("links");
    assert_eq!(harness.refused("link.so").code, "stage.not_regular");
    let made = Command::new("mkfifo").arg(dir.join("pipe.so")).status().expect("mkfifo runs");
    assert!(made.success());
    assert_eq!(harness.refused("pipe.so").code, "stage.not_regular");
    fs::create_dir(dir.join("folder.so")).expect("creates");
    assert_eq!(harness.refused("folder.so").code, "stage.not_regular");
    let _socket = UnixListener::bind(dir.join("socket.so")).expect("binds");
    assert_eq!(harness.refused("socket.so").code, "stage.not_regular");
}

#[test]
fn empty_and_oversized_files_are_refused_with_the_limit() {
    let mut harness = Harness::new();
    fs::write(harness.plugin_dir().join("empty.so"), b"").expect("writes");
    assert_eq!(harness.refused("empty.so").code, "stage.empty");
    let huge = fs::File::create(harness.plugin_dir().join("huge.so")).expect("creates");
    huge.set_len(4 << 30).expect("a sparse file");
    drop(huge);
    let failure = harness.refused("huge.so");
    assert_eq!(failure.code, "stage.too_large");
    assert!(failure.message.contains("536870912"), "{failure}");
}

#[test]
fn what_is_no_plugin_is_refused_by_reading_with_what_was_found() {
    let mut harness = Harness::new();
    let program = std::env::current_exe().expect("own path");
    fs::write(harness.plugin_dir().join("text.so"), b"#!/bin/sh\n").expect("writes");
    assert_eq!(harness.refused("text.so").code, "inspect.not_elf");
    harness.drop_file(How::Copy, &program, "program.so");
    assert_eq!(harness.refused("program.so").code, "inspect.not_library");
    let mut bytes = fs::read(artifacts::plugin("markdown-v1")).expect("reads");
    bytes[4] = 1;
    fs::write(harness.plugin_dir().join("narrow.so"), &bytes).expect("writes");
    assert_eq!(harness.refused("narrow.so").code, "inspect.wrong_class");
    bytes[4] = 2;
    bytes[18] = 0xF3;
    fs::write(harness.plugin_dir().join("riscv.so"), &bytes).expect("writes");
    assert_eq!(harness.refused("riscv.so").code, "inspect.wrong_machine");
}

#[test]
fn a_name_or_version_that_differs_from_the_note_is_refused() {
    let mut harness = Harness::new();
    let library = artifacts::plugin("markdown-v1");
    harness.drop_file(How::Rename, &library, "markdown-9.9.9.so");
    let failure = harness.refused("markdown-9.9.9.so");
    assert_eq!(failure.code, "inspect.name_mismatch");
    assert!(failure.message.contains("9.9.9") && failure.message.contains("1.0.0"), "{failure}");
    harness.drop_file(How::Rename, &library, "limiter-1.0.0.so");
    assert_eq!(harness.refused("limiter-1.0.0.so").code, "inspect.name_mismatch");
}

#[test]
fn a_plugin_whose_panics_abort_is_refused() {
    let mut harness = Harness::new();
    harness.drop_file(How::Rename, &artifacts::hostile_aborting("hostile-v1"), "hostile.so");
    assert_eq!(harness.refused("hostile.so").code, "inspect.panic_abort");
}

#[test]
fn a_changed_layout_is_one_line_naming_the_field_expected_and_found() {
    let mut harness = Harness::new();
    harness.drop_file(How::Rename, &artifacts::changed_layout(), "changed.so");
    let failure = loop {
        let event = harness.expect("refusing it", |event| event.kind.name() == "deploy_failed");
        if let replug_host::event::EventKind::DeployFailed { failure, .. } = &event.kind {
            break failure.clone();
        }
    };
    assert_eq!(failure.code, "abi.layout_mismatch");
    assert!(!failure.message.contains('\n'));
    for part in ["flags", "expected", "found", "u32", "u64"] {
        assert!(failure.message.contains(part), "{part} in {failure}");
    }
}

#[test]
fn another_abi_stable_and_another_major_of_the_abi_are_refused_with_expected_and_found() {
    let bytes = fs::read(artifacts::plugin("markdown-v1")).expect("reads");
    let mut harness = Harness::new();
    let other = artifacts::of_another_abi_stable(&artifacts::plugin("markdown-v1"));
    fs::write(harness.plugin_dir().join("header.so"), &other).expect("writes");
    let failure = harness.not_deployed("markdown@1.0.0");
    assert_eq!(failure.code, "abi.header", "{failure}");
    // The note: the version of the ABI, then that of abi_stable with its head.
    let abi = position(&bytes, |rest| {
        rest.starts_with(b"1.0.0\0\0\0") && rest.get(12..18) == Some(b"0.11.3".as_slice())
    });
    let mut other = bytes;
    other[abi] = b'2';
    fs::write(harness.plugin_dir().join("major.so"), &other).expect("writes");
    let failure = harness.refused("major.so");
    assert_eq!(failure.code, "inspect.abi_major", "{failure}");
    assert!(failure.message.contains("2.") && failure.message.contains('1'), "{failure}");
    harness.plugin("markdown").version().expect_err("neither was loaded");
}

#[test]
fn a_constructor_that_would_abort_is_not_run_by_inspection() {
    let (manifest, hazards) = replug_host::inspect(artifacts::hostile("hostile-constructor")).expect("reads");
    assert_eq!(manifest.name.as_str(), "constructor");
    assert!(!hazards.is_empty(), "an extra constructor is a hazard");
}

/// Only the note is read before a plugin runs: what it says must be so.
#[test]
fn a_note_that_names_other_interfaces_than_the_code_is_refused() {
    let mut harness = Harness::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bench.so");
    // Only in the note does the version follow the id.
    let bytes =
        artifacts::changed(&artifacts::plugin("bench-target"), b"bench.add\x001.0.0", b"bench.sub\x001.0.0");
    fs::write(&file, bytes).expect("writes");
    harness.drop_file(How::Rename, &file, "bench.so");
    let failure = harness.not_deployed("bench-target@1.0.0");
    assert_eq!(failure.code, "abi.identity_mismatch");
    let text = failure.to_string();
    assert!(text.contains("bench.sub 1.0.0") && text.contains("bench.add 1.0.0"), "{text}");
}

/// Where in the file what follows is what is looked for.
fn position(bytes: &[u8], is_it: impl Fn(&[u8]) -> bool) -> usize {
    (0..bytes.len()).find(|&at| is_it(&bytes[at..])).expect("it stands in the file")
}
