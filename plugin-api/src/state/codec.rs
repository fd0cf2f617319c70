//! State as bytes: CBOR with field names, checked in both directions.

use super::cbor;
use super::{State, StateError};
use std::any::type_name;

/// The bytes of `state`.
///
/// # Errors
/// [`StateError::Encode`] if a field has no CBOR form or nests deeper than
/// [`MAX_DEPTH`](super::MAX_DEPTH): such bytes could not be read back.
pub fn encode<S: State>(state: &S) -> Result<Vec<u8>, StateError> {
    let fail = |reason| StateError::Encode { type_name: type_name::<S>(), version: S::VERSION, reason };
    let mut bytes = Vec::new();
    ciborium::into_writer(state, &mut bytes).map_err(|error| {
        fail(match error {
            ciborium::ser::Error::Value(reason) => reason,
            ciborium::ser::Error::Io(error) => error.to_string(),
        })
    })?;
    cbor::check(&bytes).map_err(|malformed| fail(malformed.to_string()))?;
    Ok(bytes)
}

/// The state that `bytes` hold, by field name: unknown fields are dropped, and
/// missing ones take their `#[serde(default)]`.
///
/// # Errors
/// [`StateError::Decode`] if the bytes are damaged, are more than one item, nest
/// too deeply, or do not fit the type. Never panics, whatever the bytes, and
/// reserves no memory that they do not account for.
pub fn decode<S: State>(bytes: &[u8]) -> Result<S, StateError> {
    let fail = |reason| StateError::Decode { type_name: type_name::<S>(), version: S::VERSION, reason };
    cbor::check(bytes).map_err(|malformed| fail(malformed.to_string()))?;
    let mut rest = bytes;
    let state = ciborium::from_reader(&mut rest).map_err(|error| fail(explain(error)))?;
    // A type may stop reading inside an item: a tuple that became shorter, a
    // variant that lost its content. What it then reads next is misread.
    if !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        return Err(fail(format!("the type does not read beyond byte {offset}")));
    }
    Ok(state)
}

fn explain(error: ciborium::de::Error<std::io::Error>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::Syntax(offset) => format!("malformed text or number at byte {offset}"),
        Error::Semantic(Some(offset), reason) => format!("{reason} at byte {offset}"),
        Error::Semantic(None, reason) => reason,
        Error::RecursionLimitExceeded => "too many levels of nesting".into(),
    }
}
