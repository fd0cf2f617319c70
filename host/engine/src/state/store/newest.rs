//! What the newest snapshot of each plugin holds, so that the same state is not
//! saved twice.
//!
//! On an interval most states are what they were. Another file of the same would
//! tell nobody anything, and push out of the folder what somebody may go back to.
//! Known is what this store wrote itself; after a start the file is read, once.
//! Whoever changes a file makes it unknown again.

use super::name::Snapshot;
use crate::state::envelope::{DIGEST_BYTES, Envelope, digest};
use std::collections::HashMap;
use std::time::SystemTime;

/// The digest of a state; that of an envelope has a time in it.
pub(super) type StateDigest = [u8; DIGEST_BYTES];

/// The digest of the state that an envelope holds.
pub(super) fn digest_of_state(envelope: &Envelope) -> StateDigest {
    digest(&envelope.payload)
}

/// By plugin.
#[derive(Default)]
pub(super) struct Newest(HashMap<String, Known>);

struct Known {
    sequence: u64,
    file: Mark,
    state: StateDigest,
}

/// By what a file is known again, without reading it.
#[derive(PartialEq)]
struct Mark {
    bytes: u64,
    written: Option<SystemTime>,
}

impl Newest {
    /// The state that a plugin's newest snapshot holds; `read` reads its file,
    /// where that is not known. None if it cannot be used.
    pub(super) fn state(
        &mut self,
        plugin: &str,
        newest: &Snapshot,
        read: impl FnOnce() -> Option<Envelope>,
    ) -> Option<StateDigest> {
        let mark = Mark::of(newest)?;
        let known = self.0.get(plugin);
        if let Some(known) = known.filter(|known| known.sequence == newest.sequence() && known.file == mark) {
            return Some(known.state);
        }
        let state = digest_of_state(&read()?);
        self.note(plugin, newest, state);
        Some(state)
    }

    /// This is a plugin's newest snapshot, and has this state.
    pub(super) fn note(&mut self, plugin: &str, newest: &Snapshot, state: StateDigest) {
        let known = Mark::of(newest).map(|file| Known { sequence: newest.sequence(), file, state });
        match known {
            Some(known) => self.0.insert(plugin.to_owned(), known),
            None => self.0.remove(plugin),
        };
    }
}

impl Mark {
    /// None if the file cannot be looked at.
    fn of(snapshot: &Snapshot) -> Option<Mark> {
        let metadata = snapshot.path().symlink_metadata().ok()?;
        Some(Mark { bytes: metadata.len(), written: metadata.modified().ok() })
    }
}
