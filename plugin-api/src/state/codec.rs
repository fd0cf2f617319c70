//! State as bytes: CBOR by field name, of a type that has a version.

use super::cbor::{self, Fault, Output};
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

/// The bytes of `state`, handed on part by part and never all there at once,
/// until `hand_on` wants no more.
///
/// # Errors
/// As [`encode`]; what was handed on until then is to be forgotten.
pub(crate) fn encode_in_parts<S: State>(state: &S, hand_on: &mut HandOn<'_>) -> Result<(), StateError> {
    let mut parts = Parts { bytes: Vec::with_capacity(FIRST_BYTES), hand_on, wanted: true };
    cbor::write(state, &mut parts).map_err(|fault| not_encoded::<S>(&fault))?;
    parts.flush();
    Ok(())
}

/// Takes a part, and says whether more is wanted.
pub(crate) type HandOn<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// Bytes on their way.
struct Parts<'h, 'a> {
    bytes: Vec<u8>,
    hand_on: &'h mut HandOn<'a>,
    wanted: bool,
}

/// Stays in the processor's cache until it is copied.
const PART_BYTES: usize = 64 * 1024;

impl Parts<'_, '_> {
    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.wanted = self.wanted && (self.hand_on)(&self.bytes);
            self.bytes.clear();
        }
    }
}

impl Output for Parts<'_, '_> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.append(&[byte]);
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > PART_BYTES {
            self.flush();
        }
        if bytes.len() > PART_BYTES {
            self.wanted = self.wanted && (self.hand_on)(bytes);
        } else {
            self.bytes.extend_from_slice(bytes);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Notes {
        texts: Vec<String>,
    }

    impl State for Notes {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<crate::state::Link> = None;
    }

    /// Short texts, and one that is longer than any part.
    fn notes() -> Notes {
        let short = (0..20_000_u32).map(|number| number.to_string());
        Notes { texts: short.chain(["x".repeat(3 * PART_BYTES)]).chain(["last".to_owned()]).collect() }
    }

    #[test]
    fn parts_are_the_bytes_of_the_whole_and_none_is_kept_until_the_end() {
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        encode_in_parts(&notes(), &mut |part: &[u8]| {
            sizes.push(part.len());
            all.extend_from_slice(part);
            true
        })
        .expect("encodes");
        assert_eq!(all, encode(&notes()).expect("encodes"));
        assert!(sizes.len() > 3 && sizes.iter().filter(|size| **size > PART_BYTES).count() == 1, "{sizes:?}");
    }

    #[test]
    fn whoever_wants_no_more_is_given_no_more() {
        let mut parts = 0;
        encode_in_parts(&notes(), &mut |_: &[u8]| {
            parts += 1;
            parts < 2
        })
        .expect("encodes");
        assert_eq!(parts, 2);
    }
}
