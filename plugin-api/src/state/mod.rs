//! Versioned state: the types that a plugin's data has had, and the steps from
//! each to the next.
//!
//! A plugin that keeps state declares one type per schema version, and how to
//! come from the version before and how to go back. Old bytes then reach new
//! code, and new bytes reach old code after a rollback, over any number of
//! versions. A stateless plugin uses nothing of this.
//!
//! # A changed field
//!
//! ```
//! use replug_plugin_api::serde::{Deserialize, Serialize};
//! use replug_plugin_api::state::{State, StateError, Step};
//!
//! #[derive(Serialize, Deserialize, State)]
//! #[serde(crate = "replug_plugin_api::serde")]
//! #[state(version = 1)]
//! struct CounterV1 {
//!     hits: u64,
//! }
//!
//! #[derive(Serialize, Deserialize, State)]
//! #[serde(crate = "replug_plugin_api::serde")]
//! #[state(version = 2, previous = CounterV1)]
//! struct Counter {
//!     total: u64,
//! }
//!
//! impl Step<CounterV1> for Counter {
//!     fn up(old: CounterV1) -> Result<Self, StateError> {
//!         Ok(Counter { total: old.hits })
//!     }
//!     fn down(self) -> Result<CounterV1, StateError> {
//!         Ok(CounterV1 { hits: self.total })
//!     }
//! }
//!
//! let old = replug_plugin_api::state::encode(&CounterV1 { hits: 7 })?;
//! let new = replug_plugin_api::state::migrate_step::<Counter>(1, 2, &old)?;
//! assert_eq!(replug_plugin_api::state::decode::<Counter>(&new)?.total, 7);
//! # Ok::<(), StateError>(())
//! ```
//!
//! (`#[serde(crate = …)]` is not needed where the plugin's own crate depends on
//! serde.)
//!
//! # The kinds of steps
//!
//! | attribute | up | down |
//! |---|---|---|
//! | `version = 1` | none: the first version | none |
//! | `version = 2, previous = V1` | [`Step::up`] | [`Step::down`] |
//! | `version = 2, previous = V1, auto` | by field name | by field name |
//! | `version = 2, previous = V1, one_way` | [`OneWay::up`] | none: a rollback needs an old snapshot and loses what was written since |
//!
//! A missing way back is said aloud with `one_way`, because it decides how a
//! version can be rolled out; it can never be forgotten. Nor can a version in
//! between:
//!
//! ```compile_fail,E0080
//! # use replug_plugin_api::{serde::{Deserialize, Serialize}, state::State};
//! # #[derive(Serialize, Deserialize, State)]
//! # #[serde(crate = "replug_plugin_api::serde")]
//! #[state(version = 1)]
//! struct V1 { hits: u64 }
//!
//! # #[derive(Serialize, Deserialize, State)]
//! # #[serde(crate = "replug_plugin_api::serde")]
//! #[state(version = 3, previous = V1, auto)] // `previous` must be version 2
//! struct V3 { hits: u64 }
//! ```
//!
//! # By field name
//!
//! State is CBOR with field names. A field that the target does not have is
//! dropped; one that the bytes do not have needs `#[serde(default)]`. The same
//! rule carries state of a version older than the oldest type still declared:
//! it is read as that oldest type, and the steps go on from there. It never
//! goes down this way without being declared `auto`.
//!
//! # While callers wait
//!
//! A snapshot is handed over with callers waiting. It goes from value to value:
//! what [`up`](Step::up) returns is what the next step, and in the end
//! [`restore`](crate::Snapshot::restore), is given, and on the way down
//! [`down`](Step::down) is given what `export` returned. Only an `auto` step writes
//! its value out and reads it again. Beside calls, the host has gone the same way
//! before, with the state as it was then, and has had the outcome read once more.
//! What is left is what the types themselves cost: a list of a million entries
//! takes a second less there and back than a sorted map of them.
//!
//! So a field that serde skips reaches `restore` with what `up` put there, while
//! after the next restart it is empty. The module `testing` goes both ways, and
//! says where they do not lead to the same state.
//!
//! # Bounds
//!
//! Decoding refuses damaged bytes before it reserves memory for them, and
//! nesting beyond [`MAX_DEPTH`] levels. How large a state may be is the
//! caller's limit. Nothing here keeps, sends or stores state, or knows of a
//! host.

mod cbor;
mod codec;
mod steps;

/// Derives [`State`]; the [module](self) explains the attribute.
pub use replug_plugin_macros::State;

pub use cbor::MAX_DEPTH;
pub(crate) use codec::{HandOn, encode_in_parts};
pub use codec::{decode, encode};
pub use steps::{Link, OneWay, State, Step, StepInfo, StepKind, migrate_step, steps};
pub(crate) use steps::{decode_from, encode_as, leap, migrate};

use std::error::Error;

/// Why state could not be encoded, decoded or migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The value has no CBOR form, or nests too deeply.
    #[error("{type_name} (schema {version}) cannot be encoded: {reason}")]
    Encode {
        /// The state type.
        type_name: &'static str,
        /// Its schema version.
        version: u32,
        /// What serde or the check of the bytes said.
        reason: String,
    },
    /// The bytes are damaged, or are not of this type.
    #[error("the bytes are not a {type_name} (schema {version}): {reason}")]
    Decode {
        /// The state type.
        type_name: &'static str,
        /// Its schema version.
        version: u32,
        /// What serde or the check of the bytes said; names the field where
        /// serde does.
        reason: String,
    },
    /// The type declares no such step.
    #[error("schema {version} of {type_name} declares no step from {from} to {to}")]
    NoStep {
        /// The newest state type of the chain.
        type_name: &'static str,
        /// Its schema version.
        version: u32,
        /// The version that the bytes have.
        from: u32,
        /// The version that was asked for.
        to: u32,
    },
    /// A step was tried and failed; the cause says why.
    #[error("the state step from schema {from} to {to} failed")]
    Step {
        /// The version that the bytes have.
        from: u32,
        /// The version that was asked for.
        to: u32,
        /// What failed.
        source: Box<StateError>,
    },
    /// A hook refused the data.
    #[error("{0}")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

impl StateError {
    /// An error of the author's own, from a message or from any other error.
    ///
    /// ```
    /// use replug_plugin_api::state::StateError;
    ///
    /// let by_message = StateError::new("capacity is zero");
    /// let by_cause = "x".parse::<u32>().map_err(StateError::new);
    /// assert_eq!(by_message.to_string(), "capacity is zero");
    /// assert!(by_cause.is_err());
    /// ```
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        StateError::Refused(cause.into())
    }

    /// This error and its causes on one line: only text leaves the plugin.
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line
    }
}
