//! What can go wrong with a table.
//!
//! A lost race is no error: it is an answer to the write.

use crate::failure::{Code, Failure};
use crate::table::journal::JournalError;
use std::fmt::Write as _;
use std::sync::Arc;

/// Why a table could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A write before the version was activated, or after it left.
    #[error("this version may not write to table {table}: it is not active")]
    NotActive {
        /// The table.
        table: Arc<str>,
    },
    /// The row was written by a newer version that has no way back.
    #[error("row {key} of table {table} has schema {schema}, and the version reads up to {reader}")]
    NewerRow {
        /// The table.
        table: Arc<str>,
        /// The row's key, as far as it can be shown.
        key: String,
        /// The row's schema.
        schema: u32,
        /// The schema of the version that reads.
        reader: u32,
    },
    /// A row more than there may be.
    #[error("table {table} may have {max} rows, and has them")]
    RowsMax {
        /// The table.
        table: Arc<str>,
        /// Rows that are allowed.
        max: u64,
    },
    /// More bytes than there may be.
    #[error("table {table} may have {max} bytes, and the write needs more than are left")]
    BytesMax {
        /// The table.
        table: Arc<str>,
        /// Bytes that are allowed.
        max: u64,
    },
    /// A value or an image that is too large.
    #[error("row {key} of table {table} would have {bytes} bytes, and {max} are allowed")]
    RowTooLarge {
        /// The table.
        table: Arc<str>,
        /// The row's key, as far as it can be shown.
        key: String,
        /// Bytes of the value or of the image.
        bytes: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// A key that is too large.
    #[error("a key of table {table} may have {max} bytes, not {bytes}")]
    KeyTooLarge {
        /// The table.
        table: Arc<str>,
        /// Bytes of the key.
        bytes: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// The store did not take a change, now or earlier; the table can be read,
    /// and not be written to any more.
    #[error("the store of table {table} has failed")]
    StoreFailed {
        /// The table.
        table: Arc<str>,
        /// What the store said when it failed.
        source: JournalError,
    },
    /// What was read from a store is no table.
    #[error("the store of table {table} is damaged: {what}")]
    Corrupt {
        /// The table.
        table: Arc<str>,
        /// What is wrong, and where.
        what: String,
    },
}

impl Failure for TableError {
    fn code(&self) -> Code {
        match self {
            TableError::NotActive { .. } => Code::TableNotActive,
            TableError::NewerRow { .. } => Code::TableNewerRow,
            TableError::RowsMax { .. } => Code::TableRowsMax,
            TableError::BytesMax { .. } => Code::TableBytesMax,
            TableError::RowTooLarge { .. } => Code::TableRowTooLarge,
            TableError::KeyTooLarge { .. } => Code::TableKeyTooLarge,
            TableError::StoreFailed { .. } => Code::TableStoreFailed,
            TableError::Corrupt { .. } => Code::TableCorrupt,
        }
    }
}

/// A key as an error shows it: text if it is text, else hexadecimal, and no
/// more than its beginning.
pub(super) fn shown(key: &[u8]) -> String {
    const SHOWN_MAX_BYTES: usize = 32;
    let begin = &key[..key.len().min(SHOWN_MAX_BYTES)];
    let mut text = match std::str::from_utf8(begin) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => format!("{text:?}"),
        _ => begin.iter().fold("0x".to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            _ = write!(text, "{byte:02x}");
            text
        }),
    };
    if begin.len() < key.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_text_or_bytes_and_never_whole_when_long() {
        assert_eq!(shown(b"user-7"), "\"user-7\"");
        assert_eq!(shown(&[0, 0xff]), "0x00ff");
        let long = shown(&[b'a'; 1024]);
        assert!(long.ends_with('…') && long.len() < 40, "{long}");
    }
}
