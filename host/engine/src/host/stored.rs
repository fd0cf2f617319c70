//! What can be seen of saved state, and what came of changing it, as data.

use crate::{
    event::FailureReport,
    id::VersionId,
    state::store::{Examined, Sound},
};
use semver::Version;
use serde::Serialize;

/// A snapshot, without its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotStatus {
    /// The plugin.
    pub plugin: String,
    /// Its number; later is higher.
    pub sequence: u64,
    /// When it was taken, in milliseconds since 1970 by the wall clock.
    pub taken_at_unix_ms: u64,
    /// Schema version of the state.
    pub schema_version: u32,
    /// Bytes on disk.
    pub file_bytes: u64,
    /// What it holds, or why it cannot be used.
    #[serde(flatten)]
    pub content: SnapshotContent,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum SnapshotContent {
    /// It passed every check.
    Sound {
        /// The plugin version that exported the state.
        plugin_version: Version,
        /// Bytes of the state, unpacked.
        state_bytes: u64,
        /// Digest of the file, in hexadecimal.
        sha256: String,
    },
    /// It cannot be used.
    Unusable(FailureReport),
}

impl SnapshotStatus {
    pub(super) fn of(plugin: &str, examined: Examined) -> Self {
        let Examined { snapshot, file_bytes, content } = examined;
        SnapshotStatus {
            plugin: plugin.to_owned(),
            sequence: snapshot.sequence(),
            taken_at_unix_ms: snapshot.taken_at_unix_ms(),
            schema_version: snapshot.schema_version(),
            file_bytes,
            content: match content {
                Ok(Sound { plugin_version, state_bytes, sha256 }) => {
                    SnapshotContent::Sound { plugin_version, state_bytes, sha256 }
                }
                Err(error) => SnapshotContent::Unusable(FailureReport::of(&error)),
            },
        }
    }
}

/// A snapshot with its state as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownSnapshot {
    /// The plugin.
    pub plugin: String,
    /// Its number.
    pub sequence: u64,
    /// When it was taken, in milliseconds since 1970 by the wall clock.
    pub taken_at_unix_ms: u64,
    /// Schema version of the state.
    pub schema_version: u32,
    /// The plugin version that exported the state.
    pub plugin_version: Version,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// The state.
    pub state: serde_json::Value,
}

/// A file was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The plugin.
    pub plugin: String,
    /// The number that it has now.
    pub snapshot: u64,
    /// Schema version of the state.
    pub schema_version: u32,
    /// The plugin version that exported the state.
    pub plugin_version: Version,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// The number of the snapshot that was the newest before.
    pub before: Option<u64>,
}

/// A snapshot was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The version that has its state now; `None` if the next start will.
    pub active: Option<VersionId>,
    /// The snapshot's number.
    pub snapshot: u64,
    /// Schema version of the snapshot.
    pub from_schema: u32,
    /// Schema version that was restored.
    pub to_schema: u32,
    /// Bytes restored.
    pub state_bytes: u64,
    /// What is lost to the plugin by it, in words; empty for nothing.
    pub loss: String,
    /// The number under which it is the newest, for the next start; `None` if it
    /// could not be saved again, which an event says.
    pub newest: Option<u64>,
    /// The snapshot that has what there was before: restoring it undoes this.
    pub before: Option<u64>,
}
