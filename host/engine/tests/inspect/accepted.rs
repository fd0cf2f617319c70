//! What is told about files that may be loaded.

use std::path::Path;

use replug_abi::note::Kind;
use replug_host::artifact::inspect::{Hazard, Inspected, inspect};

use crate::fixture::{
    DT_FINI_ARRAYSZ, DT_FLAGS_1, DT_INIT_ARRAYSZ, Records, dynamic, patched, plugin, put, renamed, with_flag,
    word,
};

fn accepted(bytes: &[u8]) -> Inspected {
    inspect(bytes, Path::new("libmarkdown.so")).expect("the plugin is accepted")
}

#[test]
fn the_manifest_tells_what_the_note_says() {
    let json = serde_json::to_value(accepted(plugin()).manifest).expect("it serialises");
    let expected = serde_json::json!({
        "name": "markdown",
        "version": "1.2.0",
        "sdk": "0.1.0",
        "abi": "1.0.0",
        "abi_stable": "0.11.3",
        "interfaces": [{ "id": "replug.service", "version": "1.0.0" }],
        "requires": [{ "id": "replug.host", "version": "1.0.0" }],
        "state": { "snapshot": true, "tables": false },
        "schema_version": 3,
        "dependencies": [{ "name": "templates", "range": "^2.1" }],
        "routes": ["/render"],
        "capabilities": ["stream/2"],
        "rustc": "rustc 1.95.0",
        "target": "x86_64-unknown-linux-gnu",
        "profile": "release",
        "panic": "unwind",
        "ledger": true,
    });
    assert_eq!(json, expected);
}

#[test]
fn a_file_without_section_headers_is_read_all_the_same() {
    let mut bytes = patched(40, &[0; 8]);
    bytes[58..64].fill(0);
    assert_eq!(accepted(&bytes), accepted(plugin()));
}

#[test]
fn a_buffer_of_odd_alignment_is_read_all_the_same() {
    let mut bytes = vec![0];
    bytes.extend_from_slice(plugin());
    assert_eq!(accepted(&bytes[1..]), accepted(plugin()));
}

#[test]
fn unknown_records_are_skipped_unless_they_are_critical() {
    let known = accepted(&Records::good().in_plugin());
    let more = accepted(&Records::good().and(0x7ffe, b"news").in_plugin());
    assert_eq!(more.manifest, known.manifest);
}

#[test]
fn a_file_name_that_tells_the_truth_or_nothing_is_accepted() {
    for name in ["markdown-1.2.0.so", "libmarkdown@1.2.0.so", "any_other.so"] {
        inspect(plugin(), Path::new(name)).expect(name);
    }
}

#[test]
fn a_newer_minor_of_the_abi_is_accepted() {
    let bytes = Records::good().with(Kind::Abi, b"1.7.0").in_plugin();
    assert_eq!(accepted(&bytes).manifest.abi.minor, 7);
}

#[test]
fn nodelete_is_cleared_by_one_patch_that_changes_nothing_else() {
    assert_eq!(accepted(plugin()).clear_nodelete, None);

    let mut bytes = with_flag(DT_FLAGS_1, 0x8);
    let patch = accepted(&bytes).clear_nodelete.expect("a patch");
    let place = patch.offset as usize;
    bytes[place..place + 8].copy_from_slice(&patch.bytes);
    assert_eq!(bytes, plugin());
}

#[test]
fn a_plugin_without_the_ledger_shows_by_its_imports() {
    let [Hazard::NoLedger { imports }] = &accepted(plugin()).hazards[..] else {
        panic!("expected the missing ledger alone");
    };
    assert!(imports.contains(&"pthread_key_create".to_owned()));
}

/// What the file would look like with the ledger linked in.
fn with_ledger() -> Vec<u8> {
    let mut bytes = plugin().to_vec();
    let Hazard::NoLedger { imports } = &accepted(plugin()).hazards[0] else {
        panic!("expected the missing ledger");
    };
    for import in imports {
        bytes = renamed(bytes, import, "getpid");
    }
    bytes
}

#[test]
fn a_plugin_with_the_ledger_has_no_hazards() {
    assert_eq!(accepted(&with_ledger()).hazards, []);
}

#[test]
fn a_note_that_denies_the_ledger_is_a_hazard() {
    let bytes = Records::good().with(Kind::Ledger, &[0; 4]).in_plugin();
    let hazards = accepted(&bytes).hazards;
    assert!(matches!(hazards[..], [Hazard::NoLedger { .. }]));
}

#[test]
fn imports_that_change_the_process_are_hazards() {
    let bytes = renamed(with_ledger(), "_Unwind_GetTextRelBase", "sigaction");
    let bytes = renamed(bytes, "_Unwind_GetDataRelBase", "setenv");
    let imports = vec!["sigaction".to_owned(), "setenv".to_owned()];
    assert_eq!(accepted(&bytes).hazards, [Hazard::ProcessWide { imports }]);
}

#[test]
fn further_libraries_are_hazards() {
    let bytes = renamed(with_ledger(), "libgcc_s.so.1", "libssl.so.3");
    let needed = vec!["libssl.so.3".to_owned()];
    assert_eq!(accepted(&bytes).hazards, [Hazard::Libraries { needed }]);
}

#[test]
fn constructors_beyond_the_toolchains_own_are_hazards() {
    let mut bytes = with_ledger();
    let place = dynamic(&bytes, DT_INIT_ARRAYSZ);
    assert_eq!(word(&bytes, place), 16, "what the toolchain brings");
    put(&mut bytes, place, 24);
    let expected = Hazard::Constructors { found: 3, usual: 2 };
    assert_eq!(accepted(&bytes).hazards, [expected]);
}

#[test]
fn finalisers_beyond_the_toolchains_own_are_hazards() {
    let mut bytes = with_ledger();
    let place = dynamic(&bytes, DT_FINI_ARRAYSZ);
    assert_eq!(word(&bytes, place), 8, "what the toolchain brings");
    put(&mut bytes, place, 16);
    let expected = Hazard::Finalisers { found: 2, usual: 1, imports: Vec::new() };
    assert_eq!(accepted(&bytes).hazards, [expected]);
}

/// `atexit` is part of the library itself, and calls what is imported.
#[test]
fn finalisers_that_are_registered_are_hazards() {
    let bytes = renamed(with_ledger(), "_Unwind_GetTextRelBase", "__cxa_atexit");
    let imports = vec!["__cxa_atexit".to_owned()];
    let expected = Hazard::Finalisers { found: 1, usual: 1, imports };
    assert_eq!(expected.to_string(), "registers finalisers that run at unload: imports __cxa_atexit");
    assert_eq!(accepted(&bytes).hazards, [expected]);
}

#[test]
fn unique_symbols_are_hazards() {
    const DT_SYMTAB: u64 = 6;
    const STB_GNU_UNIQUE: u8 = 10;
    let mut bytes = with_ledger();
    // The table lies in the first segment, where addresses are offsets.
    let table = word(&bytes, dynamic(&bytes, DT_SYMTAB)) as usize;
    let symbol =
        (table..).step_by(24).skip(1).find(|at| bytes[at + 6..at + 8] != [0, 0]).expect("an exported symbol");
    bytes[symbol + 4] = STB_GNU_UNIQUE << 4 | bytes[symbol + 4] & 0xf;
    let hazards = accepted(&bytes).hazards;
    let [Hazard::UniqueSymbols { count: 1, symbols }] = &hazards[..] else {
        panic!("expected one unique symbol, found {hazards:?}");
    };
    assert_eq!(symbols.len(), 1);
}

#[test]
fn hazards_serialise_under_a_stable_name() {
    let hazard = Hazard::Constructors { found: 3, usual: 2 };
    let json = serde_json::to_value(&hazard).expect("it serialises");
    let expected = serde_json::json!({ "hazard": "constructors", "found": 3, "usual": 2 });
    assert_eq!(json, expected);
    assert_eq!(hazard.to_string(), "3 constructors run at load, expected 2");
}
