//! State as bytes: CBOR by field name, of a type that has a version.

use super::cbor::{self, Fault};
use super::{State, StateError};
use std::any::type_name;

/// What most states of a few fields fit into.
const FIRST_BYTES: usize = 128;

/// The bytes of `state`.
///
/// # Errors
/// [`StateError::Encode`] if a field has no CBOR form or nests deeper than
/// [`MAX_DEPTH`](super::MAX_DEPTH): such bytes could not be read back.
#[inline]
pub fn encode<S: State>(state: &S) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::with_capacity(FIRST_BYTES);
    match cbor::write(state, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(fault) => Err(not_encoded::<S>(&fault)),
    }
}

/// The state that `bytes` hold, by field name: unknown fields are dropped, and
/// missing ones take their `#[serde(default)]`.
///
/// # Errors
/// [`StateError::Decode`] if the bytes are damaged, are more than one item, nest
/// too deeply, or do not fit the type. Never panics, whatever the bytes, and
/// reserves no memory that they do not account for.
#[inline]
pub fn decode<S: State>(bytes: &[u8]) -> Result<S, StateError> {
    cbor::read(bytes).map_err(|fault| not_decoded::<S>(&fault))
}

#[cold]
fn not_encoded<S: State>(fault: &Fault) -> StateError {
    StateError::Encode { type_name: type_name::<S>(), version: S::VERSION, reason: fault.to_string() }
}

#[cold]
fn not_decoded<S: State>(fault: &Fault) -> StateError {
    StateError::Decode { type_name: type_name::<S>(), version: S::VERSION, reason: fault.to_string() }
}
