//! What host and child tell each other: one line of JSON each, the request first.

use crate::{id::Digest, table::SampleRow};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};

/// The version of this form: a helper of another one refuses the request.
pub(crate) const FORMAT: u32 = 3;

/// The longest request, in bytes: a configuration, and paths.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the host says on standard input, and the line to it. Standard input is nothing
/// more from then on.
pub(crate) fn read_request() -> io::Result<(Request, UnixStream)> {
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // No socket, no host.
    line.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let mut request = String::new();
    BufReader::new((&line).take(REQUEST_BYTES_MAX)).read_line(&mut request)?;
    let request: Request = serde_json::from_str(&request)?;
    if request.format != FORMAT {
        let what = format!("the host speaks form {} of rehearsals, this helper {FORMAT}", request.format);
        return Err(io::Error::other(what));
    }
    Ok((request, line))
}

/// What is to be rehearsed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) format: u32,
    /// The host's process: the child ends with it.
    pub(crate) host: u32,
    /// The private copy, and the digest that it has.
    pub(crate) library: PathBuf,
    pub(crate) digest: Digest,
    /// The library of the version that serves.
    pub(crate) before: Option<PathBuf>,
    /// The plugin's configuration (JSON); empty for none.
    pub(crate) config: String,
    /// A saved state.
    pub(crate) state: Option<PathBuf>,
    /// Tables by name, each with a file of some of its rows.
    pub(crate) rows: Vec<(String, PathBuf)>,
    /// Calls that are to be made on the version before and on the new one (JSON).
    pub(crate) calls: Option<PathBuf>,
    /// What the host allows its plugins.
    pub(crate) bounds: Bounds,
    /// The typed interfaces that the host looks for in libraries.
    pub(crate) interfaces: Vec<WantedInterface>,
    /// The one folder that may be written.
    pub(crate) scratch: PathBuf,
    pub(crate) limits: Limits,
}

/// What the child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) file_bytes: u64,
    pub(crate) processor_s: u64,
    /// How long calls are made on each of two versions.
    pub(crate) replay_ms: u64,
}

/// What a host allows its plugins, as far as that matters to a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub(crate) state_bytes: u64,
    pub(crate) table_rows: u64,
    pub(crate) table_bytes: u64,
    pub(crate) body_bytes: u64,
    pub(crate) answer_bytes: u64,
    /// How long `stop` may take.
    pub(crate) stop_ms: u64,
    /// How long its threads are waited for.
    pub(crate) threads_ms: u64,
}

/// A typed interface, and the version of it that the host knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WantedInterface {
    pub(crate) id: String,
    pub(crate) version: String,
}

/// A step of a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The child starts, and gives up what it may not do.
    Confine,
    /// The library is opened, which runs its constructors, and its layouts are checked.
    Load,
    /// An instance is built with the real configuration.
    Prepare,
    /// The instance says which methods it has.
    Methods,
    /// The version before is loaded too: it converts state on the way down, or gives it.
    Before,
    /// The state is brought to the version's schema.
    Migrate,
    /// The version reads it, as it does beside calls.
    Read,
    /// The instance takes it.
    Restore,
    /// The instance gives it.
    Export,
    /// That is brought back to the schema from which it came.
    MigrateBack,
    /// Some rows of its tables are brought to the version's schemas, and back.
    Rows,
    /// The self-test.
    SelfTest,
    /// Calls that came last are made on the version before.
    ReplayBefore,
    /// The same calls are made on the version.
    Replay,
    /// The calls are made that the version gives as examples.
    Samples,
    /// The instance ends what it runs.
    Stop,
    /// The instance is dropped.
    Drop,
    /// The library is unmapped, and that is proved.
    Unload,
}

impl Step {
    /// The name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Confine => "confine",
            Step::Load => "load",
            Step::Prepare => "prepare",
            Step::Methods => "methods",
            Step::Before => "before",
            Step::Migrate => "migrate",
            Step::Read => "read",
            Step::Restore => "restore",
            Step::Export => "export",
            Step::MigrateBack => "migrate_back",
            Step::Rows => "rows",
            Step::SelfTest => "self_test",
            Step::ReplayBefore => "replay_before",
            Step::Replay => "replay",
            Step::Samples => "samples",
            Step::Stop => "stop",
            Step::Drop => "drop",
            Step::Unload => "unload",
        }
    }
}

/// What the child says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A step begins; in one of the version before its failures are not the new one's.
    Enter { step: Step, of_before: bool },
    /// It was done.
    Left {
        step: Step,
        #[serde(flatten)]
        measured: Measured,
        /// Threads of the version before.
        besides: u64,
    },
    /// What confines the child.
    Confined { protections: Vec<Protection> },
    /// What became of the state.
    State { way: StateWay },
    /// What became of some rows of a table.
    Rows { rows: RowsWay },
    /// Which answers differ.
    Replayed { replayed: Replayed },
    /// The version is refused, or the one before has failed.
    Refused { step: Step, of_before: bool, said: Said },
    /// Everything was done.
    Done,
}

/// Why the child refuses a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// For what it would be refused for in the host, too.
    Failure { code: String, message: String },
    /// It closed or replaced descriptors that are not its own.
    Descriptors { closed: Vec<String> },
    /// It started more threads than it may.
    Threads { threads: u64, max: u64 },
    /// A call that it gives as an example is not answered.
    Sample { method: String, body: String, message: String },
    /// It is unloaded, and these files of it are still open.
    Leaked { files: Vec<String> },
    /// The library stays in memory, for these reasons.
    Resident { pins: Vec<String> },
}

/// What a step took, and what the child held when it had ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// In microseconds.
    pub micros: u64,
    /// Memory of the child, in KiB.
    pub memory_kib: u64,
    /// Threads that the plugin has.
    pub threads: u64,
    /// Files that the plugin has open.
    pub descriptors: u64,
}

/// Something that confines the child, or makes a rehearsal whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// `limits`, `landlock`, `seccomp`; or what is missing: the state, the layout of an
    /// interface.
    pub name: String,
    /// Why it is not there, or not whole.
    pub absent: Option<String>,
}

/// The way of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWay {
    /// Schema version of the state as it is.
    pub from_schema: u32,
    /// Schema version of the state as the version has it.
    pub to_schema: u32,
    /// Bytes of the state as it is.
    pub bytes_before: u64,
    /// Bytes of what the version gives after it has taken it, if it came to that.
    pub bytes_after: Option<u64>,
    /// Whether that can be gone back.
    pub way_back: WayBack,
}

/// What became of some rows of a table, which were of another schema than the version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsWay {
    /// The table.
    pub table: String,
    /// Rows that were looked at.
    pub rows: u64,
    /// Of these, rows that were brought to the version's schema.
    pub converted: u64,
    /// Of these, rows of which the version before can read what comes of them.
    pub way_back: u64,
}

/// What came of the calls that were made on the version before and on the new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Calls that were made on both.
    pub calls: u64,
    /// Calls that were not: not both versions say that the method is repeatable, or there
    /// was no time for them.
    pub left_out: u64,
    /// Calls to which the versions gave other answers.
    pub differ: u64,
    /// The first of these.
    pub differing: Vec<Differing>,
}

/// A call to which two versions gave other answers; long texts are cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The method.
    pub method: String,
    /// What it was asked.
    pub body: String,
    /// What the version before answered, or why it did not.
    pub before: String,
    /// What the new one did.
    pub now: String,
}

/// Writes rows as one file: schema and length of each before its value, in four bytes
/// each, the lowest first.
pub(crate) fn rows_as_bytes(rows: &[SampleRow]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for SampleRow { schema, value } in rows {
        bytes.extend(schema.to_le_bytes());
        // The limit of values is far below 4 GiB.
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

/// Reads them again; what is cut off at the end is left out.
pub(crate) fn rows_from_bytes(mut bytes: &[u8]) -> Vec<SampleRow> {
    let mut rows = Vec::new();
    while let Some((schema, rest)) = bytes.split_first_chunk()
        && let Some((length, rest)) = rest.split_first_chunk()
        && let Some((value, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        rows.push(SampleRow { schema: u32::from_le_bytes(*schema), value: value.to_vec() });
        bytes = rest;
    }
    rows
}

/// Whether state can be brought back to the schema from which it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum WayBack {
    /// It is of the same schema.
    Unchanged,
    /// By the version's steps, which were made.
    Steps {
        /// Bytes of the state that came back.
        bytes: u64,
        /// They are the bytes that went in.
        same: bool,
    },
    /// It did not come to that.
    NotReached,
    /// On the way down nobody goes back: what the later version had is kept.
    NotTried,
    /// There is none: going back takes an older snapshot.
    None {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WayBack::Unchanged => f.write_str("the same schema"),
            WayBack::NotReached => f.write_str("it went no further"),
            WayBack::NotTried => f.write_str("the way back is not tried on the way down"),
            WayBack::Steps { bytes, same: true } => write!(f, "the way back gives the same {bytes} bytes"),
            WayBack::Steps { bytes, same: false } => write!(f, "the way back gives {bytes} bytes, others"),
            WayBack::None { reason } => write!(f, "no way back: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written_also_if_the_end_is_cut_off(
            rows in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
            cut in 0..40_usize,
        ) {
            let rows: Vec<SampleRow> =
                rows.into_iter().map(|(schema, value)| SampleRow { schema, value }).collect();
            let bytes = rows_as_bytes(&rows);
            prop_assert_eq!(&rows_from_bytes(&bytes), &rows);
            let part = rows_from_bytes(&bytes[..bytes.len().saturating_sub(cut)]);
            prop_assert!(rows.starts_with(&part));
        }
    }
}
