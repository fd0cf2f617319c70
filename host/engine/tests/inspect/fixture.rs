//! Real plugin files, and the means to spoil them.
//!
//! Two cdylibs are built once per run, directly with rustc. Everything else is
//! made from their bytes: a file that differs from a good one in one place
//! shows that this place is looked at.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use replug_abi::note::{self, Kind};

pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const DT_INIT_ARRAYSZ: u64 = 27;
pub(crate) const DT_FINI_ARRAYSZ: u64 = 28;
pub(crate) const DT_FLAGS: u64 = 30;
pub(crate) const DT_FLAGS_1: u64 = 0x6fff_fffb;

/// A good plugin: `markdown` 1.2.0, without the unload ledger.
pub(crate) fn plugin() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| build("unwind"))
}

/// The same plugin, built with panic = "abort" but a note that denies it.
pub(crate) fn aborting_plugin() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| build("abort"))
}

fn build(panic: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("markdown.rs");
    let library = dir.path().join("libmarkdown.so");
    std::fs::write(&source, source_text()).expect("the source is written");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=cdylib", "-Cstrip=symbols"])
        .args(["-Copt-level=1", &format!("-Cpanic={panic}"), "-o"])
        .args([&library, &source])
        .output()
        .expect("rustc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rustc failed: {errors}");
    std::fs::read(&library).expect("the library is read")
}

fn source_text() -> String {
    let note = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api/abi/src/note/mod.rs");
    let note = note.display();
    format!(
        r##"
#[path = {:?}]
#[allow(dead_code, unused_imports)]
mod note;
use note::{{Panic, Profile, Record, State}};

const RECORDS: &[Record<'static>] = &[
    Record::Name("markdown"),
    Record::Version("1.2.0"),
    Record::Sdk("0.1.0"),
    Record::Abi(note::ABI_VERSION),
    Record::AbiStable(note::ABI_STABLE_VERSION),
    Record::Interface {{ id: "replug.service", version: [1, 0, 0] }},
    Record::Requires {{ id: "replug.host", version: [1, 0, 0] }},
    Record::State {{ model: State::SNAPSHOT, schema: 3 }},
    Record::Dependency {{ name: "templates", range: "^2.1" }},
    Record::Route("/render"),
    Record::Capability("stream/2"),
    Record::Rustc("rustc 1.95.0"),
    Record::Target("x86_64-unknown-linux-gnu"),
    Record::Profile(Profile::Release),
    Record::Panic(Panic::Unwind),
    Record::Ledger(true),
];
const LEN: usize = note::encoded_len(&[RECORDS]);
#[used]
#[unsafe(link_section = ".note.replug")]
static NOTE: note::Note<LEN> = note::encode::<LEN>(&[RECORDS]);

#[unsafe(export_name = {ROOT_MODULE_LOADER_NAME:?})]
pub static ROOT: u8 = 0;

#[unsafe(no_mangle)]
pub extern "C" fn call(input: u64) -> u64 {{
    std::panic::catch_unwind(|| if input == 3 {{ panic!() }} else {{ input }}).unwrap_or(0)
}}
"##,
        note.to_string()
    )
}

/// The records of the good plugin's note, to be changed one at a time.
pub(crate) struct Records(Vec<(u16, Vec<u8>)>);

impl Records {
    pub(crate) fn good() -> Records {
        let texts: &[(Kind, &[u8])] = &[
            (Kind::Name, b"markdown"),
            (Kind::Version, b"1.2.0"),
            (Kind::Sdk, b"0.1.0"),
            (Kind::Abi, note::ABI_VERSION.as_bytes()),
            (Kind::AbiStable, note::ABI_STABLE_VERSION.as_bytes()),
            (Kind::State, &[0; 8]),
            (Kind::Rustc, b"rustc 1.95.0"),
            (Kind::Target, b"x86_64-unknown-linux-gnu"),
            (Kind::Profile, b"release"),
            (Kind::Panic, b"unwind"),
            (Kind::Ledger, &[1, 0, 0, 0]),
        ];
        let records = texts.iter().map(|(kind, value)| (*kind as u16, value.to_vec()));
        Records(records.collect())
    }

    pub(crate) fn without(mut self, kind: Kind) -> Records {
        self.0.retain(|(number, _)| *number != kind as u16);
        self
    }

    pub(crate) fn and(mut self, number: u16, value: &[u8]) -> Records {
        self.0.push((number, value.to_vec()));
        self
    }

    pub(crate) fn with(self, kind: Kind, value: &[u8]) -> Records {
        self.without(kind).and(kind as u16, value)
    }

    /// The note's description.
    pub(crate) fn desc(&self) -> Vec<u8> {
        let mut desc = Vec::new();
        for (number, value) in &self.0 {
            desc.extend(number.to_le_bytes());
            desc.extend((value.len() as u16).to_le_bytes());
            desc.extend(value);
            desc.resize(desc.len().next_multiple_of(4), 0);
        }
        desc
    }

    /// The good plugin with this note.
    pub(crate) fn in_plugin(&self) -> Vec<u8> {
        with_notes(&[elf_note(note::FORMAT, &self.desc())])
    }
}

/// A whole ELF note of owner replug.
pub(crate) fn elf_note(format: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [note::OWNER.len() as u32, desc.len() as u32, format] {
        note.extend(word.to_le_bytes());
    }
    note.extend(note::OWNER);
    note.push(0);
    note.extend(desc);
    note
}

/// The good plugin with these notes in place of its own: they are appended to
/// the file, and the program header of the notes points to them.
pub(crate) fn with_notes(notes: &[Vec<u8>]) -> Vec<u8> {
    let notes = notes.concat();
    let mut file = plugin().to_vec();
    file.resize(file.len().next_multiple_of(8), 0);
    let program = program(&file, PT_NOTE);
    let place = file.len() as u64;
    put(&mut file, program + 8, place);
    put(&mut file, program + 32, notes.len() as u64);
    put(&mut file, program + 40, notes.len() as u64);
    file.extend(notes);
    file
}

/// The good plugin with `bytes` written at `offset`.
pub(crate) fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = plugin().to_vec();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    file
}

/// The good plugin with a bit set in the value of a dynamic tag.
pub(crate) fn with_flag(tag: u64, flag: u64) -> Vec<u8> {
    let mut file = plugin().to_vec();
    let place = dynamic(&file, tag);
    let value = word(&file, place) | flag;
    put(&mut file, place, value);
    file
}

/// Gives every dynamic name `from` the name `to`, which must not be longer.
pub(crate) fn renamed(mut file: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let pattern = [b"\0", from.as_bytes(), b"\0"].concat();
    let places: Vec<usize> =
        (0..file.len() - pattern.len()).filter(|at| file[*at..].starts_with(&pattern)).collect();
    let [place] = places[..] else {
        panic!("{from} stands {} times in the file", places.len());
    };
    let place = &mut file[place + 1..place + 1 + from.len()];
    place.fill(0);
    place[..to.len()].copy_from_slice(to.as_bytes());
    file
}

/// Where the first program header of a type stands.
pub(crate) fn program(file: &[u8], kind: u32) -> usize {
    let count = usize::from(u16::from_le_bytes([file[56], file[57]]));
    let table = word(file, 32) as usize;
    (0..count)
        .map(|index| table + index * 56)
        .find(|at| file[*at..*at + 4] == kind.to_le_bytes())
        .expect("a program header of the type")
}

/// Where the value of a dynamic tag stands.
pub(crate) fn dynamic(file: &[u8], tag: u64) -> usize {
    let section = word(file, program(file, PT_DYNAMIC) + 8) as usize;
    (section..file.len()).step_by(16).find(|at| word(file, *at) == tag).expect("the dynamic tag") + 8
}

pub(crate) fn word(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn put(file: &mut [u8], at: usize, word: u64) {
    file[at..at + 8].copy_from_slice(&word.to_le_bytes());
}
