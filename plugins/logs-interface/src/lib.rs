//! The typed interfaces of the log pipeline: which lines are kept, and what is
//! found in them.
//!
//! The embedder (`host/engine/examples/logs`) calls them, the plugins `filter`
//! and `enrich` implement them. Whatever crosses borrows from the line: no byte
//! of it is copied.

#![deny(unsafe_code)]

use abi_stable::{StableAbi, std_types::RStr};
use replug_plugin_api::{
    Result,
    interface::{Portable, interface},
};

/// What a filter says of a line.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi, Portable)]
pub struct Verdict {
    /// Whether the line goes on.
    pub keep: bool,
    /// The major version of the plugin that says so.
    pub by: u32,
}

/// What is found in a line.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi, Portable)]
pub struct Entry<'a> {
    /// The line's number.
    pub sequence: u64,
    /// How urgent it is, `WARN`.
    pub level: RStr<'a>,
    /// The rest of it.
    pub message: RStr<'a>,
    /// The major version of the plugin that found it.
    pub by: u32,
}

/// Decides which lines go on.
#[interface(id = "logs.filter", version = "1.0.0")]
pub trait Filter {
    /// What becomes of this line.
    fn judge(&self, line: &str) -> Verdict;
}

/// Takes lines apart.
#[interface(id = "logs.enrich", version = "1.0.0")]
pub trait Enrich {
    /// The parts of `NUMBER LEVEL MESSAGE`; an error for any other line.
    fn enrich<'a>(&'a self, line: &'a str) -> Result<Entry<'a>>;
}

/// The parts of `NUMBER LEVEL MESSAGE`, for implementations of [`Enrich`].
pub fn parts(line: &str) -> Option<(u64, &str, &str)> {
    let (number, rest) = line.split_once(' ')?;
    let (level, message) = rest.split_once(' ')?;
    Some((number.parse().ok()?, level, message))
}
