//! Writing the note at compile time.
//!
//! Everything is `const fn`: what is wrong with a record stops the plugin's
//! build. Nothing here runs in a loaded plugin.

use super::{CRITICAL, FORMAT, MAX_DESC_BYTES, OWNER, Record, is_name};

/// The three words of an ELF note header, and the owner padded to four bytes.
const HEADER_BYTES: usize = 12 + OWNER.len().next_multiple_of(4);

/// A whole ELF note of `N` bytes: header, owner and records.
///
/// Only bytes, so that the static needs no relocation, and aligned as the
/// dynamic linker and binutils expect of a note.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))]
pub struct Note<const N: usize>([u8; N]);

impl<const N: usize> Note<N> {
    /// The bytes as they stand in the file.
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

/// The length in bytes of the note that holds the records of all `groups`: the
/// `N` of [`encode`].
pub const fn encoded_len(groups: &[&[Record<'_>]]) -> usize {
    let mut len = HEADER_BYTES;
    let mut group = 0;
    while group < groups.len() {
        let records = groups[group];
        let mut at = 0;
        while at < records.len() {
            len += 4 + value_len(&records[at]).next_multiple_of(4);
            at += 1;
        }
        group += 1;
    }
    len
}

/// Writes the note, in the order of `groups` and of the records in each. They
/// are groups because constants cannot be concatenated.
///
/// # Panics
///
/// At compile time, when used as the [module](super) shows: when `N` is not
/// [`encoded_len`] of the same records, when the records exceed
/// [`MAX_DESC_BYTES`], when a name is not a [name](is_name), or when a text is
/// empty or has control characters.
pub const fn encode<const N: usize>(groups: &[&[Record<'_>]]) -> Note<N> {
    assert!(N == encoded_len(groups), "N must be encoded_len(groups)");
    assert!(
        N - HEADER_BYTES <= MAX_DESC_BYTES,
        "the plugin's note may have 64 KiB: shorten names, routes or dependencies"
    );
    let mut out = Writer { bytes: [0; N], at: 0 };
    out.word(OWNER.len() as u32);
    out.word((N - HEADER_BYTES) as u32);
    out.word(FORMAT);
    out.put(OWNER);
    out.pad();
    let mut group = 0;
    while group < groups.len() {
        let records = groups[group];
        let mut at = 0;
        while at < records.len() {
            check(&records[at]);
            out.record(&records[at]);
            at += 1;
        }
        group += 1;
    }
    Note(out.bytes)
}

/// The shapes that a value has in the file.
#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Pair(&'a str, &'a str),
    /// A pair of a text and a semver.
    Versioned(&'a str, [u32; 3]),
    Word(u32),
    Words(u32, u32),
}

const fn value<'a>(record: &Record<'a>) -> Value<'a> {
    match *record {
        Record::Name(text)
        | Record::Version(text)
        | Record::Sdk(text)
        | Record::Abi(text)
        | Record::AbiStable(text)
        | Record::Route(text)
        | Record::Capability(text)
        | Record::Rustc(text)
        | Record::Target(text) => Value::Text(text),
        Record::Interface { id, version } | Record::Requires { id, version } => Value::Versioned(id, version),
        Record::Dependency { name, range } => Value::Pair(name, range),
        Record::State { model, schema } => Value::Words(model.bits(), schema),
        Record::Profile(profile) => Value::Text(profile.as_str()),
        Record::Panic(panic) => Value::Text(panic.as_str()),
        Record::Ledger(present) => Value::Word(present as u32),
    }
}

const fn value_len(record: &Record<'_>) -> usize {
    match value(record) {
        Value::Text(text) => text.len(),
        Value::Pair(first, second) => first.len() + 1 + second.len(),
        Value::Versioned(text, [major, minor, patch]) => {
            text.len() + 1 + digits(major) + 1 + digits(minor) + 1 + digits(patch)
        }
        Value::Word(_) => 4,
        Value::Words(..) => 8,
    }
}

/// How many decimals a number has.
const fn digits(number: u32) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

const fn check(record: &Record<'_>) {
    if let Record::Name(name) | Record::Dependency { name, .. } = record {
        assert!(
            is_name(name),
            "a plugin's name has 1 to 64 characters of a-z, 0-9, - and _, and starts with a letter"
        );
    }
    match value(record) {
        Value::Text(text) | Value::Versioned(text, _) => check_text(text),
        Value::Pair(first, second) => {
            check_text(first);
            check_text(second);
        }
        Value::Word(_) | Value::Words(..) => {}
    }
    assert!(value_len(record) <= u16::MAX as usize, "a record of a plugin's note may have 65535 bytes");
}

const fn check_text(text: &str) {
    assert!(!text.is_empty(), "a text in a plugin's note is empty");
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        // U+0080 to U+009F are control characters too: C2 80 to C2 9F in UTF-8.
        let c1 = bytes[at] == 0xc2 && bytes[at + 1] < 0xa0;
        assert!(!bytes[at].is_ascii_control() && !c1, "a text in a plugin's note has a control character");
        at += 1;
    }
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    const fn record(&mut self, record: &Record<'_>) {
        let kind = record.kind();
        let critical = if kind.is_critical() { CRITICAL } else { 0 };
        self.put(&(kind as u16 | critical).to_le_bytes());
        self.put(&(value_len(record) as u16).to_le_bytes());
        match value(record) {
            Value::Text(text) => self.put(text.as_bytes()),
            Value::Pair(first, second) => {
                self.put(first.as_bytes());
                self.put(b"\0");
                self.put(second.as_bytes());
            }
            Value::Versioned(text, [major, minor, patch]) => {
                self.put(text.as_bytes());
                self.put(b"\0");
                self.decimal(major);
                self.put(b".");
                self.decimal(minor);
                self.put(b".");
                self.decimal(patch);
            }
            Value::Word(word) => self.word(word),
            Value::Words(first, second) => {
                self.word(first);
                self.word(second);
            }
        }
        self.pad();
    }

    const fn decimal(&mut self, number: u32) {
        let (begin, mut rest) = (self.at, number);
        self.at += digits(number);
        let mut place = self.at;
        while place > begin {
            place -= 1;
            self.bytes[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    const fn word(&mut self, word: u32) {
        self.put(&word.to_le_bytes());
    }

    const fn put(&mut self, bytes: &[u8]) {
        let (_, rest) = self.bytes.split_at_mut(self.at);
        let (place, _) = rest.split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The padding is there already: the bytes start out as NULs.
    const fn pad(&mut self) {
        self.at = self.at.next_multiple_of(4);
    }
}
