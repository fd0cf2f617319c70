//! What a rehearsal saw, as events tell it.

use serde::Serialize;

/// A step of a rehearsal that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RehearsedStep {
    /// Its name.
    pub step: &'static str,
    /// In microseconds.
    pub micros: u64,
    /// Memory of the child after it, in KiB.
    pub memory_kib: u64,
    /// Threads of the plugin that it had then.
    pub threads: u64,
    /// Files that the plugin had open then.
    pub descriptors: u64,
}

/// What became of the state in a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RehearsedState {
    /// Schema version of the state as it is.
    pub from_schema: u32,
    /// Schema version of the state as the version has it.
    pub to_schema: u32,
    /// Bytes of the state as it is.
    pub bytes_before: u64,
    /// Bytes of what the version gives after it has taken it, if it came to that.
    pub bytes_after: Option<u64>,
    /// Whether there is a way back, and why not.
    pub way_back: String,
}

/// Rows of a table on which a version was rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RehearsedRows {
    /// The table.
    pub table: String,
    /// Rows that were looked at.
    pub rows: u64,
    /// Of these, rows that were brought to the version's schema.
    pub converted: u64,
    /// Of these, rows that the version before can read then.
    pub way_back: u64,
}

/// What came of calls that were made on the version that serves and on the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RehearsedCalls {
    /// Calls that were made on both.
    pub calls: u64,
    /// Calls that were not: one of the versions does not say that the method is repeatable.
    pub left_out: u64,
    /// Calls that were answered otherwise.
    pub differ: u64,
    /// The first of these.
    pub differing: Vec<OtherAnswer>,
}

/// A call that two versions answer otherwise; long texts are cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherAnswer {
    /// The method.
    pub method: String,
    /// What it was asked.
    pub body: String,
    /// What the version that serves answered, or why it did not.
    pub before: String,
    /// What the new one did.
    pub now: String,
}
