//! What is refused, under which code, and with which words.

use std::path::Path;

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use replug_abi::note::{self, Kind};
use replug_host::artifact::inspect::inspect;
use replug_host::failure::{Code, Failure};

use crate::fixture::{
    DT_FLAGS, DT_FLAGS_1, PT_DYNAMIC, Records, aborting_plugin, elf_note, patched, plugin, program, put,
    renamed, with_flag, with_notes,
};

/// Asserts the code and that the message is one line of the path and `says`.
#[track_caller]
fn refused(bytes: &[u8], code: Code, says: &str) {
    refused_as("plugins/markdown.so", bytes, code, says);
}

#[track_caller]
fn refused_as(path: &str, bytes: &[u8], code: Code, says: &str) {
    let error = inspect(bytes, Path::new(path)).expect_err("the file is refused");
    assert_eq!(error.to_string(), format!("{path}: {says}"));
    assert_eq!(error.code(), code);
    assert_eq!(error.path(), Path::new(path));
}

#[test]
fn text_and_empty_files_are_no_elf_files() {
    let says = r#"not an ELF file: expected "\x7fELF", found "hell""#;
    refused(b"hello, world\n", Code::InspectNotElf, says);
    let says = r#"not an ELF file: expected "\x7fELF", found """#;
    refused(b"", Code::InspectNotElf, says);
}

#[test]
fn a_32_bit_or_big_endian_file_is_of_the_wrong_class() {
    let says = "expected a 64-bit little-endian ELF file, found 32-bit little-endian";
    refused(&patched(4, &[1]), Code::InspectWrongClass, says);
    let says = "expected a 64-bit little-endian ELF file, found 64-bit big-endian";
    refused(&patched(5, &[2]), Code::InspectWrongClass, says);
}

#[test]
fn a_file_for_another_machine_is_named() {
    let here = if cfg!(target_arch = "x86_64") { "x86-64" } else { "aarch64" };
    let says = format!("expected a library for {here}, found one for risc-v");
    refused(&patched(18, &[243, 0]), Code::InspectWrongMachine, &says);
    let says = format!("expected a library for {here}, found one for machine 9999");
    let other = 9999_u16.to_le_bytes();
    refused(&patched(18, &other), Code::InspectWrongMachine, &says);
}

#[test]
fn executables_and_objects_are_no_libraries() {
    let this = std::env::current_exe().and_then(std::fs::read);
    let says = "expected a shared library, found a position-independent executable";
    refused(&this.expect("this test"), Code::InspectNotLibrary, says);
    // A static one has no interpreter, but the flag DF_1_PIE.
    let static_pie = with_flag(DT_FLAGS_1, 0x0800_0000);
    refused(&static_pie, Code::InspectNotLibrary, says);

    let says = "expected a shared library, found an executable";
    refused(&patched(16, &[2, 0]), Code::InspectNotLibrary, says);
    let says = "expected a shared library, found an object file that is not linked yet";
    refused(&patched(16, &[1, 0]), Code::InspectNotLibrary, says);

    let without_dynamic = patched(program(plugin(), PT_DYNAMIC), &[0; 4]);
    let says = "expected a shared library, found a file without a dynamic section";
    refused(&without_dynamic, Code::InspectNotLibrary, says);
}

#[test]
fn a_file_that_is_cut_short_is_refused_wherever_it_ends() {
    let whole = plugin();
    for end in (0..whole.len()).step_by(997) {
        let error = inspect(&whole[..end], Path::new("cut.so")).expect_err("cut short");
        let code = if end == 0 { Code::InspectNotElf } else { Code::InspectTruncated };
        assert_eq!(error.code(), code, "{error} at {end}");
    }
    let says = format!(
        "cut short: expected at least {} bytes for the section headers, found {}",
        whole.len(),
        whole.len() - 1
    );
    refused(&whole[..whole.len() - 1], Code::InspectTruncated, &says);
}

#[test]
fn headers_that_contradict_each_other_are_malformed() {
    let segment = program(plugin(), 1);
    let mut overlapping = plugin().to_vec();
    put(&mut overlapping, segment + 40, 1 << 40);
    let says = "malformed ELF file: the loaded segments overlap or are out of order";
    refused(&overlapping, Code::InspectMalformed, says);

    let mut elsewhere = plugin().to_vec();
    put(&mut elsewhere, program(plugin(), PT_DYNAMIC) + 16, 1 << 40);
    let says = "malformed ELF file: the dynamic section lies outside of the loaded segments";
    refused(&elsewhere, Code::InspectMalformed, says);
}

#[test]
fn exactly_one_note_is_expected() {
    let says = "expected one replug note, found none";
    refused(&with_notes(&[]), Code::InspectNoNote, says);
    let note = elf_note(note::FORMAT, &Records::good().desc());
    let says = "expected one replug note, found several";
    refused(&with_notes(&[note.clone(), note]), Code::InspectBadNote, says);
}

#[test]
fn a_note_of_another_format_is_unsupported() {
    let bytes = with_notes(&[elf_note(2, &Records::good().desc())]);
    let says = "expected a note of format 1, found format 2";
    refused(&bytes, Code::InspectNoteUnsupported, says);
}

#[test]
fn a_note_may_have_64_kib() {
    let filler = |len: usize| {
        let mut records = Records::good();
        let mut missing = len - records.desc().len();
        while missing > 0 {
            let value = (missing - 4).min(32 * 1024);
            records = records.and(0x7ffe, &vec![b'x'; value]);
            missing -= value + 4;
        }
        records.in_plugin()
    };
    inspect(&filler(64 * 1024), Path::new("full.so")).expect("as much as a note may have");
    let says = "expected a note of at most 65536 bytes, found 65540";
    refused(&filler(64 * 1024 + 4), Code::InspectTooLarge, says);
}

#[test]
fn an_unknown_critical_record_is_unsupported() {
    let bytes = Records::good().and(0x7ffe | note::CRITICAL, b"news").in_plugin();
    let says = "expected records that this host knows, found critical record 32766 in the note";
    refused(&bytes, Code::InspectNoteUnsupported, says);
    let bytes = Records::good().with(Kind::State, &[4, 0, 0, 0, 0, 0, 0, 0]).in_plugin();
    let says = "expected a state model that this host knows, found 0x4 in the note";
    refused(&bytes, Code::InspectNoteUnsupported, says);
}

#[test]
fn a_note_that_makes_no_sense_is_bad_and_says_where() {
    let once = [
        Kind::Name,
        Kind::Version,
        Kind::Sdk,
        Kind::Abi,
        Kind::AbiStable,
        Kind::State,
        Kind::Rustc,
        Kind::Target,
        Kind::Profile,
        Kind::Panic,
        Kind::Ledger,
    ];
    for kind in once {
        let bytes = Records::good().without(kind).in_plugin();
        let says = format!("expected the record {} in the note, found none", kind.as_str());
        refused(&bytes, Code::InspectBadNote, &says);
    }

    let cases: [(Kind, &[u8], &str); 9] = [
        (
            Kind::Name,
            b"Markdown",
            "expected 1 to 64 of a-z, 0-9, - and _, starting with a letter in the record name of the note, found \"Markdown\"",
        ),
        (Kind::Version, b"1.2", "expected semver in the record version of the note, found \"1.2\""),
        (Kind::Version, b"1\x1b[2J", "damaged note: the record version is not a printable text"),
        (Kind::State, &[0; 4], "damaged note: the record state has 4 bytes, expected 8"),
        (
            Kind::Profile,
            b"fast",
            "expected debug or release in the record profile of the note, found \"fast\"",
        ),
        (
            Kind::Panic,
            b"ignore",
            "expected unwind or abort in the record panic of the note, found \"ignore\"",
        ),
        (
            Kind::Capability,
            b"stream",
            "expected name/revision in the record capability of the note, found \"stream\"",
        ),
        (
            Kind::Interface,
            b"a b\x001.0.0",
            "expected 1 to 128 printable ASCII characters without spaces in the record interface of the note, found \"a b\"",
        ),
        (Kind::Dependency, b"templates", "damaged note: the record dependency is not a printable text"),
    ];
    for (kind, value, says) in cases {
        let bytes = Records::good().with(kind, value).in_plugin();
        refused(&bytes, Code::InspectBadNote, says);
    }

    let twice = Records::good().and(Kind::Name as u16, b"other").in_plugin();
    let says = "expected the record name once in the note, found it twice";
    refused(&twice, Code::InspectBadNote, says);

    let mut cut = Records::good().desc();
    cut.truncate(cut.len() - 4);
    let says =
        format!("damaged note: the record at byte {} of the note goes beyond the note's end", cut.len() - 4);
    let cut = with_notes(&[elf_note(note::FORMAT, &cut)]);
    refused(&cut, Code::InspectBadNote, &says);
}

#[test]
fn a_library_without_the_root_symbol_is_no_plugin() {
    let bytes = renamed(plugin().to_vec(), ROOT_MODULE_LOADER_NAME, "elsewhere");
    let says = format!("expected the exported symbol {ROOT_MODULE_LOADER_NAME}, found none");
    refused(&bytes, Code::InspectNoRoot, &says);
}

#[test]
fn panic_abort_shows_in_the_imports_and_in_the_note() {
    let says = "expected a plugin that unwinds on panic, found no import of _Unwind_RaiseException";
    refused(aborting_plugin(), Code::InspectPanicAbort, says);
    let bytes = Records::good().with(Kind::Panic, b"abort").in_plugin();
    let says = r#"expected a plugin that unwinds on panic, found panic = "abort" in the note"#;
    refused(&bytes, Code::InspectPanicAbort, says);
}

#[test]
fn static_tls_is_refused() {
    let says = "expected dynamic thread-local storage, found DF_STATIC_TLS";
    refused(&with_flag(DT_FLAGS, 0x10), Code::InspectStaticTls, says);
}

#[test]
fn another_major_of_the_abi_is_refused_by_name() {
    let bytes = Records::good().with(Kind::Abi, b"2.0.1").in_plugin();
    let says = "expected ABI version 1.x, found 2.0.1";
    refused(&bytes, Code::InspectAbiMajor, says);
    let bytes = Records::good().with(Kind::AbiStable, b"0.12.0").in_plugin();
    let says = "expected abi_stable compatible with 0.11.3, found 0.12.0";
    refused(&bytes, Code::AbiHeader, says);
}

/// Otherwise its constructors would run before the handshake refuses it.
#[test]
fn a_plugin_that_needs_what_the_host_lacks_is_refused_before_it_is_loaded() {
    for (requires, code, says) in [
        (
            &b"host.log\x001.0.0"[..],
            Code::AbiMissingInterface,
            "it needs host interface host.log, which this host does not have",
        ),
        (
            b"replug.host\x001.3.0",
            Code::AbiMissingInterface,
            "it needs host interface replug.host 1.3.0, this host has 1.2.0",
        ),
        (
            b"replug.host\x002.0.0",
            Code::AbiInterfaceMajor,
            "it needs host interface replug.host 2.0.0, this host has 1.2.0",
        ),
    ] {
        refused(&Records::good().with(Kind::Requires, requires).in_plugin(), code, says);
    }
}

#[test]
fn a_file_name_that_lies_is_refused() {
    let says = "expected markdown 1.3.0 as the file name says, found markdown 1.2.0 in the note";
    let path = "plugins/markdown-1.3.0.so";
    refused_as(path, plugin(), Code::InspectNameMismatch, says);
    let says = "expected libmarkup 1.2.0 as the file name says, found markdown 1.2.0 in the note";
    let path = "plugins/libmarkup@1.2.0.so";
    refused_as(path, plugin(), Code::InspectNameMismatch, says);
}
