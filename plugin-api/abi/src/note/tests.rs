//! The note's bytes are a contract: these tests fail when they change.

use super::*;

const RECORDS: &[Record<'static>] = &[
    Record::Name("markdown"),
    Record::Version("1.2.0"),
    Record::Sdk("0.1.0"),
    Record::Abi("1.0.0"),
    Record::AbiStable("0.11.3"),
    Record::Interface { id: "replug.service", version: [1, 0, 0] },
    Record::Requires { id: "host.log", version: [1, 1, 0] },
    Record::State { model: State::SNAPSHOT.and(State::TABLES), schema: 0x0102_0304 },
    Record::Dependency { name: "templates", range: "^2.1" },
    Record::Route("/render"),
    Record::Capability("stream/2"),
    Record::Rustc("rustc 1.95.0"),
    Record::Target("x86_64-unknown-linux-gnu"),
    Record::Profile(Profile::Debug),
    Record::Panic(Panic::Unwind),
    Record::Ledger(true),
];

/// Every kind once. This is what libraries in the field contain: it may gain
/// lines for new kinds, but no line may ever change.
const GOLDEN: &[&[u8]] = &[
    b"\x07\0\0\0\xec\0\0\0\x01\0\0\0replug\0\0",
    b"\x01\x80\x08\0markdown",
    b"\x02\x80\x05\x001.2.0\0\0\0",
    b"\x03\x80\x05\x000.1.0\0\0\0",
    b"\x04\x80\x05\x001.0.0\0\0\0",
    b"\x05\x80\x06\x000.11.3\0\0",
    b"\x06\x80\x14\0replug.service\x001.0.0",
    b"\x07\x80\x0e\0host.log\x001.1.0\0\0",
    b"\x08\x80\x08\0\x03\0\0\0\x04\x03\x02\x01",
    b"\x09\x80\x0e\0templates\0^2.1\0\0",
    b"\x0a\0\x07\0/render\0",
    b"\x0b\0\x08\0stream/2",
    b"\x0c\0\x0c\0rustc 1.95.0",
    b"\x0d\0\x18\0x86_64-unknown-linux-gnu",
    b"\x0e\0\x05\0debug\0\0\0",
    b"\x0f\x80\x06\0unwind\0\0",
    b"\x10\x80\x04\0\x01\0\0\0",
];

/// In two groups, and one without records, as the export macro has them.
const GROUPS: &[&[Record<'static>]] = &[RECORDS.split_at(5).0, &[], RECORDS.split_at(5).1];
const LEN: usize = encoded_len(GROUPS);
static NOTE: Note<LEN> = encode::<LEN>(GROUPS);

#[test]
fn the_encoding_is_the_golden_one() {
    assert_eq!(NOTE.as_bytes().as_slice(), GOLDEN.concat());
    assert_eq!(align_of_val(&NOTE), 4);
}

#[test]
fn versions_are_written_as_decimals_of_any_length() {
    const RECORD: &[Record<'static>] = &[Record::Requires { id: "a.b", version: [0, 1_029, u32::MAX] }];
    const LEN: usize = encoded_len(&[RECORD]);
    let note = encode::<LEN>(&[RECORD]);
    let record = records(&note.as_bytes()[20..]).next().expect("one").expect("whole");
    assert_eq!(record.pair(), Ok(("a.b", "0.1029.4294967295")));
}

#[test]
fn every_kind_is_in_the_golden_note_and_reads_back() {
    let kinds: Vec<Kind> =
        records(&GOLDEN.concat()[20..]).map(|record| record.expect("whole").kind().expect("known")).collect();
    assert_eq!(kinds, Kind::ALL);
    for (record, kind) in RECORDS.iter().zip(kinds) {
        assert_eq!(record.kind(), kind);
        assert_eq!(Kind::from_number(kind as u16), Some(kind));
    }
}

#[test]
fn texts_pairs_and_words_read_back() {
    let desc = GOLDEN.concat();
    let all: Vec<RawRecord<'_>> = records(&desc[20..]).map(|r| r.expect("whole")).collect();
    assert_eq!(all[0].text(), Ok("markdown"));
    assert_eq!(all[5].pair(), Ok(("replug.service", "1.0.0")));
    assert_eq!(all[7].words(), Ok([3, 0x0102_0304]));
    assert!(all[0].is_critical() && !all[9].is_critical());
}

#[test]
fn a_value_may_grow_at_its_end() {
    let mut grown = records(b"\x06\x80\x0c\0a.b\x001.0.0\0zz\x10\x80\x08\0\x01\0\0\0\xff\xff\xff\xff");
    let pair = grown.next().expect("first").expect("whole");
    assert_eq!(pair.pair(), Ok(("a.b", "1.0.0")));
    let words = grown.next().expect("second").expect("whole");
    assert_eq!(words.words(), Ok([1]));
    assert!(grown.next().is_none());
}

#[test]
fn a_note_cut_anywhere_ends_with_one_error_at_most() {
    let desc = &GOLDEN.concat()[20..];
    for end in 0..desc.len() {
        let mut errors = 0;
        let mut bytes = 0;
        for record in records(&desc[..end]) {
            match record {
                Ok(record) => bytes += 4 + record.value().len().next_multiple_of(4),
                Err(error) => {
                    errors += 1;
                    assert_eq!(error, NoteError::Cut { at: bytes });
                }
            }
        }
        assert_eq!(errors, usize::from(bytes != end), "cut at {end}");
    }
}

#[test]
fn empty_binary_and_control_texts_are_refused() {
    for value in [&b""[..], b"\xff\xfe", b"a\x1b[2J"] {
        let mut bytes = vec![0x0a, 0, value.len() as u8, 0];
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let record = records(&bytes).next().expect("one").expect("whole");
        assert_eq!(record.text(), Err(NoteError::NotText { kind: 10 }));
    }
}

#[test]
fn names_are_lowercase_and_short() {
    for name in ["a", "markdown-v2", "a_b", &"a".repeat(64)] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "1a", "-a", "A", "a b", "ä", "a/b", &"a".repeat(65)] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn the_versions_stated_are_the_versions_in_use() {
    assert_eq!(ABI_VERSION, env!("CARGO_PKG_VERSION"));
    assert_eq!(ABI_STABLE_VERSION, abi_stable::ABI_STABLE_VERSION.version.as_str());
}

#[test]
#[should_panic(expected = "starts with a letter")]
fn a_bad_name_stops_the_build() {
    encode::<32>(&[&[Record::Name("Markdown")]]);
}

#[test]
#[should_panic(expected = "control character")]
fn a_control_character_stops_the_build() {
    encode::<28>(&[&[Record::Route("a\u{9b}")]]);
}
