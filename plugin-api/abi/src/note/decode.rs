//! Reading the records of a note, one after the other, from untrusted bytes.
//!
//! It splits and never judges: whether a record is known, allowed twice or
//! makes sense is decided by the host.

use core::{error, fmt, str};

use super::{CRITICAL, Kind};

/// Iterates over the records in a note's description.
///
/// The iterator ends after the first error: what follows it has no meaning.
///
/// ```
/// use replug_abi::note::{self, Kind, Record};
///
/// const RECORDS: &[Record<'static>] = &[Record::Name("markdown")];
/// const NOTE: note::Note<{ note::encoded_len(&[RECORDS]) }> = note::encode(&[RECORDS]);
///
/// let desc = &NOTE.as_bytes()[20..];
/// let record = note::records(desc).next().unwrap().unwrap();
/// assert_eq!(record.kind(), Some(Kind::Name));
/// assert_eq!(record.text().unwrap(), "markdown");
/// ```
pub fn records(desc: &[u8]) -> Records<'_> {
    Records { desc, at: 0 }
}

/// The records of a note, see [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    desc: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RawRecord<'a>, NoteError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.desc.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        match split(rest) {
            Some((record, len)) => {
                self.at += len;
                Some(Ok(record))
            }
            None => {
                self.at = self.desc.len();
                Some(Err(NoteError::Cut { at }))
            }
        }
    }
}

/// The first record of `rest`, and how many bytes it takes with its padding.
fn split(rest: &[u8]) -> Option<(RawRecord<'_>, usize)> {
    let (head, rest) = rest.split_first_chunk::<4>()?;
    let kind = u16::from_le_bytes([head[0], head[1]]);
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let padded = len.next_multiple_of(4);
    let value = rest.get(..padded)?.get(..len)?;
    Some((RawRecord { kind, value }, 4 + padded))
}

/// One record, as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    kind: u16,
    value: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// The kind, if this version of the format knows it.
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.number())
    }

    /// The number of the kind, without the critical bit.
    pub const fn number(&self) -> u16 {
        self.kind & !CRITICAL
    }

    /// Whether a reader that does not know the kind must refuse the plugin.
    pub const fn is_critical(&self) -> bool {
        self.kind & CRITICAL != 0
    }

    /// The value, without padding.
    pub const fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The value as one text.
    ///
    /// # Errors
    ///
    /// When it is empty, not UTF-8, or has control characters.
    pub fn text(&self) -> Result<&'a str, NoteError> {
        self.readable(self.value)
    }

    /// The value as two texts with a NUL between them; further ones are ignored.
    ///
    /// # Errors
    ///
    /// When one is missing, empty, not UTF-8, or has control characters.
    pub fn pair(&self) -> Result<(&'a str, &'a str), NoteError> {
        let mut parts = self.value.split(|byte| *byte == 0);
        let mut part = || self.readable(parts.next().unwrap_or_default());
        Ok((part()?, part()?))
    }

    /// The value's first words; further ones are ignored.
    ///
    /// # Errors
    ///
    /// When the value is shorter.
    pub fn words<const W: usize>(&self) -> Result<[u32; W], NoteError> {
        let mut words = [0; W];
        let mut rest = self.value;
        for word in &mut words {
            let bytes;
            (bytes, rest) = rest.split_first_chunk().ok_or(NoteError::Short {
                kind: self.number(),
                expected: 4 * W,
                found: self.value.len(),
            })?;
            *word = u32::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    fn readable(&self, bytes: &'a [u8]) -> Result<&'a str, NoteError> {
        str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.is_empty() && !text.contains(char::is_control))
            .ok_or(NoteError::NotText { kind: self.number() })
    }
}

/// Why the bytes of a note cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteError {
    /// A record, its value or its padding goes beyond the note's end.
    Cut {
        /// Where the record starts, in bytes from the start of the description.
        at: usize,
    },
    /// A text is missing, empty, not UTF-8, or has control characters.
    NotText {
        /// The number of the record's kind.
        kind: u16,
    },
    /// A value has too few bytes.
    Short {
        /// The number of the record's kind.
        kind: u16,
        /// The bytes that the kind needs.
        expected: usize,
        /// The bytes that the value has.
        found: usize,
    },
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            NoteError::Cut { at } => {
                write!(f, "the record at byte {at} of the note goes beyond the note's end")
            }
            NoteError::NotText { kind } => {
                write!(f, "{} is not a printable text", Label(kind))
            }
            NoteError::Short { kind, expected, found } => {
                let label = Label(kind);
                write!(f, "{label} has {found} bytes, expected {expected}")
            }
        }
    }
}

impl error::Error for NoteError {}

/// A kind by its name, or by its number when it has none.
struct Label(u16);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Kind::from_number(self.0) {
            Some(kind) => write!(f, "the record {}", kind.as_str()),
            None => write!(f, "the record of kind {}", self.0),
        }
    }
}
