//! CBOR for serde, in one pass over a slice: the byte format of state and rows.
//!
//! Structs are maps by field name, `None` and `()` are null, a variant is its
//! name or a map of one from its name to its content: what `ciborium` writes and
//! reads, so that old snapshots stay readable. It is not used itself because a
//! row is read and written in the time that a call takes, and it needs a second
//! pass to be safe and four times as long.
//!
//! Bytes come from disks and from other versions. Reading them never panics,
//! never recurses deeper than [`MAX_DEPTH`], and reserves memory only for items
//! that the bytes that are left can hold. What a type leaves unread is an error.
//! Nothing here knows of versions.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub(super) use read::read;
pub(super) use write::{Output, write};

use std::fmt;

/// The most levels of nested arrays and maps that a state may have.
pub const MAX_DEPTH: usize = 128;

/// What is wrong with the bytes or with the value, and where.
///
/// Behind a pointer: results stay as small as what is read.
#[derive(Debug)]
pub(super) struct Fault(Box<Reason>);

#[derive(Debug)]
enum Reason {
    /// The bytes at this offset are no CBOR, or none that is read.
    Malformed(&'static str, usize),
    /// They are, but not of the type; the offset is behind what does not fit.
    Unfit(String, usize),
    /// A value that has no bytes.
    Unwritable(String),
}

impl Fault {
    #[cold]
    fn malformed(what: &'static str, offset: usize) -> Self {
        Fault(Box::new(Reason::Malformed(what, offset)))
    }

    /// Says where, if serde's own words do not yet.
    #[cold]
    fn at(mut self, offset: usize) -> Self {
        if let Reason::Unwritable(reason) = &mut *self.0 {
            self.0 = Box::new(Reason::Unfit(std::mem::take(reason), offset));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Malformed(what, offset) => write!(f, "{what} at byte {offset}"),
            Reason::Unfit(reason, offset) => write!(f, "{reason} at byte {offset}"),
            Reason::Unwritable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Fault(Box::new(Reason::Unwritable(reason.to_string())))
    }
}

impl serde::ser::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Fault(Box::new(Reason::Unwritable(reason.to_string())))
    }
}

/// The major types, in the top three bits of an item's first byte.
mod major {
    pub(super) const UNSIGNED: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const TAG: u8 = 6;
}

/// First bytes of the items of major type 7, and tags.
mod byte {
    pub(super) const FALSE: u8 = 0xf4;
    pub(super) const TRUE: u8 = 0xf5;
    pub(super) const NULL: u8 = 0xf6;
    pub(super) const UNDEFINED: u8 = 0xf7;
    pub(super) const HALF: u8 = 0xf9;
    pub(super) const SINGLE: u8 = 0xfa;
    pub(super) const DOUBLE: u8 = 0xfb;
    pub(super) const BREAK: u8 = 0xff;
    pub(super) const BIG_POSITIVE: u8 = 0xc2;
    pub(super) const BIG_NEGATIVE: u8 = 0xc3;
}

/// The low five bits of a first byte that give no length: a break ends the item.
const UNTIL_BREAK: u8 = 31;
