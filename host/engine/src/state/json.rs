//! State as JSON, for people: its form describes itself, so that no code of the
//! plugin is needed to read it.
//!
//! JSON has fewer kinds of values than CBOR. What it has no word for becomes an
//! object with one key that begins with `$`, so that nothing looks like what it
//! is not:
//!
//! | CBOR | JSON |
//! |---|---|
//! | integer beyond 64 bits, bignum up to 128 bits | `{"$int": "-18446744073709551616"}` |
//! | a float that is no number | `{"$float": "NaN"}`, `"inf"`, `"-inf"` |
//! | byte string | `{"$bytes": "00ff"}`, in hexadecimal |
//! | tag | `{"$tag": 32, "value": …}` |
//! | `undefined`, another simple value | `{"$simple": 23}` |
//! | map with a key that is no text, stands twice, or begins with `$` | `{"$map": [[key, value], …]}` |
//!
//! Integers of 64 bits are exact; the keys of an object are in their order as
//! text. It is a way to look at state and none back: what is kept, moved and
//! restored are the bytes.

use super::envelope::hex;
use crate::failure::{Code, Failure};
use ciborium_ll::{Decoder, Header, simple, tag};
use serde_json::{Map, Number, Value, json};

/// The most values that are shown of one state, each counted as it is nested: a
/// million take a few hundred megabytes.
pub const ITEMS_MAX: usize = 1_000_000;

/// The most levels of arrays, maps and tags; the SDK writes and reads no more.
const DEPTH_MAX: usize = 128;

/// Bytes of a string that are read at a time.
const CHUNK_BYTES: usize = 4096;

/// The value that `state` holds, which is CBOR.
///
/// ```
/// use replug_host::state::json::to_json;
///
/// // {"hits": 7}
/// assert_eq!(to_json(b"\xa1\x64hits\x07")?, serde_json::json!({ "hits": 7 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`JsonError`]: the bytes are not one CBOR value, or too much for this form.
pub fn to_json(state: &[u8]) -> Result<Value, JsonError> {
    let mut reading = Reading { decoder: Decoder::from(state), items: 0, chunk: [0; CHUNK_BYTES] };
    let header = reading.header()?;
    let value = reading.value(header, 0)?;
    match state.len() - reading.decoder.offset() {
        0 => Ok(value),
        _ => Err(reading.malformed("more bytes follow the value")),
    }
}

/// State cannot be shown as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The bytes are not one CBOR value.
    #[error("the state is not CBOR: {reason}, at byte {offset}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        offset: usize,
    },
    /// There are more values than [`ITEMS_MAX`].
    #[error("the state has more than {limit} values, which are too many to show")]
    TooMany {
        /// How many are shown.
        limit: usize,
    },
}

impl Failure for JsonError {
    fn code(&self) -> Code {
        match self {
            JsonError::Malformed { .. } => Code::StateBadBytes,
            JsonError::TooMany { .. } => Code::StateNotShown,
        }
    }
}

type DecoderError = ciborium_ll::Error<std::io::Error>;

struct Reading<'a> {
    decoder: Decoder<&'a [u8]>,
    items: usize,
    chunk: [u8; CHUNK_BYTES],
}

impl Reading<'_> {
    /// The head of the next value, which is counted.
    fn header(&mut self) -> Result<Header, JsonError> {
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(JsonError::TooMany { limit: ITEMS_MAX });
        }
        self.decoder.pull().map_err(|error| self.syntax(&error))
    }

    fn value(&mut self, header: Header, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.malformed("it is nested too deeply"));
        }
        Ok(match header {
            Header::Positive(number) => number.into(),
            Header::Negative(number) => integer(!i128::from(number)),
            Header::Float(number) => match Number::from_f64(number) {
                Some(number) => Value::Number(number),
                None => json!({ "$float": number.to_string() }),
            },
            Header::Simple(simple::FALSE) => false.into(),
            Header::Simple(simple::TRUE) => true.into(),
            Header::Simple(simple::NULL) => Value::Null,
            Header::Simple(number) => json!({ "$simple": number }),
            Header::Text(length) => self.text(length)?.into(),
            Header::Bytes(length) => json!({ "$bytes": hex(&self.bytes(length)?) }),
            Header::Array(length) => self.array(length, depth)?.into(),
            Header::Map(length) => self.map(length, depth)?,
            Header::Tag(number) => {
                let header = self.header()?;
                self.tagged(number, header, depth)?
            }
            Header::Break => return Err(self.malformed("a break ends nothing")),
        })
    }

    /// The next value of an array or a map; none at its end.
    fn next(&mut self, left: &mut Option<usize>) -> Result<Option<Header>, JsonError> {
        match left {
            Some(0) => return Ok(None),
            Some(count) => *count -= 1,
            None => {}
        }
        let header = self.header()?;
        Ok((left.is_some() || header != Header::Break).then_some(header))
    }

    fn array(&mut self, mut left: Option<usize>, depth: usize) -> Result<Vec<Value>, JsonError> {
        let mut items = Vec::new();
        while let Some(header) = self.next(&mut left)? {
            items.push(self.value(header, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, mut left: Option<usize>, depth: usize) -> Result<Value, JsonError> {
        let mut object = Map::new();
        // Once something in it has no place in an object, all of it goes here.
        let mut pairs: Option<Vec<Value>> = None;
        while let Some(header) = self.next(&mut left)? {
            let key = self.value(header, depth + 1)?;
            let header = self.header()?;
            let value = self.value(header, depth + 1)?;
            match (&mut pairs, key) {
                (None, Value::String(key)) if !key.starts_with('$') && !object.contains_key(&key) => {
                    object.insert(key, value);
                }
                (pairs, key) => {
                    let before =
                        || std::mem::take(&mut object).into_iter().map(|(k, v)| json!([k, v])).collect();
                    pairs.get_or_insert_with(before).push(json!([key, value]));
                }
            }
        }
        Ok(pairs.map_or(Value::Object(object), |pairs| json!({ "$map": pairs })))
    }

    fn tagged(&mut self, number: u64, header: Header, depth: usize) -> Result<Value, JsonError> {
        if let (tag::BIGPOS | tag::BIGNEG, Header::Bytes(length)) = (number, header) {
            let bytes = self.bytes(length)?;
            let magnitude = big(&bytes).and_then(|value| i128::try_from(value).ok());
            return Ok(match magnitude {
                Some(value) if number == tag::BIGPOS => integer(value),
                Some(value) => integer(!value),
                None => json!({ "$tag": number, "value": { "$bytes": hex(&bytes) } }),
            });
        }
        Ok(json!({ "$tag": number, "value": self.value(header, depth + 1)? }))
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Vec<u8>, JsonError> {
        let mut bytes = Vec::new();
        self.read_bytes(length, &mut bytes).map_err(|error| self.syntax(&error))?;
        Ok(bytes)
    }

    fn read_bytes(&mut self, length: Option<usize>, bytes: &mut Vec<u8>) -> Result<(), DecoderError> {
        let mut segments = self.decoder.bytes(length);
        while let Some(mut segment) = segments.pull()? {
            while let Some(part) = segment.pull(&mut self.chunk)? {
                bytes.extend_from_slice(part);
            }
        }
        Ok(())
    }

    fn text(&mut self, length: Option<usize>) -> Result<String, JsonError> {
        let mut text = String::new();
        self.read_text(length, &mut text).map_err(|error| self.syntax(&error))?;
        Ok(text)
    }

    fn read_text(&mut self, length: Option<usize>, text: &mut String) -> Result<(), DecoderError> {
        let mut segments = self.decoder.text(length);
        while let Some(mut segment) = segments.pull()? {
            while let Some(part) = segment.pull(&mut self.chunk)? {
                text.push_str(part);
            }
        }
        Ok(())
    }

    fn syntax(&mut self, error: &DecoderError) -> JsonError {
        match error {
            ciborium_ll::Error::Io(_) => self.malformed("the bytes end too early"),
            ciborium_ll::Error::Syntax(offset) => {
                JsonError::Malformed { reason: "there is no value of CBOR", offset: *offset }
            }
        }
    }

    fn malformed(&mut self, reason: &'static str) -> JsonError {
        JsonError::Malformed { reason, offset: self.decoder.offset() }
    }
}

/// A number where JSON has one, else its digits.
fn integer(value: i128) -> Value {
    if let Ok(number) = u64::try_from(value) {
        return number.into();
    }
    i64::try_from(value).map_or_else(|_| json!({ "$int": value.to_string() }), Value::from)
}

/// The number that these bytes are, the highest first; none above 128 bits.
fn big(bytes: &[u8]) -> Option<u128> {
    let leading = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[leading..];
    (bytes.len() <= size_of::<u128>())
        .then(|| bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> Value {
        to_json(bytes).unwrap_or_else(|error| panic!("{bytes:02x?}: {error}"))
    }

    fn refused(bytes: &[u8]) -> JsonError {
        to_json(bytes).expect_err("must be refused")
    }

    #[test]
    fn what_json_knows_is_shown_as_it_is() {
        #[derive(serde::Serialize)]
        struct State {
            name: &'static str,
            taken: u64,
            balance: i64,
            level: f64,
            open: bool,
            next: Option<u8>,
            keys: Vec<(u8, &'static str)>,
        }
        let state = State {
            name: "ada \u{1f600}",
            taken: u64::MAX,
            balance: i64::MIN,
            level: 0.1,
            open: true,
            next: None,
            keys: vec![(1, "a"), (2, "")],
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&state, &mut bytes).expect("memory");
        assert_eq!(shown(&bytes), serde_json::to_value(&state).expect("has a JSON form"));
    }

    #[test]
    fn what_json_has_no_word_for_is_named() {
        for (bytes, expected) in [
            (&b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"[..], json!({ "$int": "-18446744073709551616" })),
            (b"\xc2\x49\x01\0\0\0\0\0\0\0\0", json!({ "$int": "18446744073709551616" })),
            (b"\xc3\x49\x01\0\0\0\0\0\0\0\0", json!({ "$int": "-18446744073709551617" })),
            (b"\xc2\x43\0\x01\0", json!(256)),
            (
                b"\xc2\x51\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                json!({ "$tag": 2, "value": { "$bytes": "0100000000000000000000000000000000" } }),
            ),
            (b"\xf9\x7e\x00", json!({ "$float": "NaN" })),
            (b"\xf9\x7c\x00", json!({ "$float": "inf" })),
            (b"\xf9\xfc\x00", json!({ "$float": "-inf" })),
            (b"\x43\x00\x7f\xff", json!({ "$bytes": "007fff" })),
            (b"\x5f\x41\x01\x41\x02\xff", json!({ "$bytes": "0102" })),
            (b"\x7f\x61a\x61b\xff", json!("ab")),
            (b"\xc1\x1a\x67\x3f\x00\x00", json!({ "$tag": 1, "value": 0x673f_0000 })),
            (b"\xf7", json!({ "$simple": 23 })),
            (b"\x9f\x01\x9f\xff\xff", json!([1, []])),
            (b"\xbf\x61a\x01\xff", json!({ "a": 1 })),
            (b"\xa2\x61a\x01\x02\x03", json!({ "$map": [["a", 1], [2, 3]] })),
            (b"\xa2\x61a\x01\x61a\x02", json!({ "$map": [["a", 1], ["a", 2]] })),
            (b"\xa1\x64$int\x01", json!({ "$map": [["$int", 1]] })),
            (b"\xa1\xa0\xa0", json!({ "$map": [[{}, {}]] })),
        ] {
            assert_eq!(shown(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn bytes_that_are_not_one_value_are_refused_with_their_place() {
        for (bytes, expected, place) in [
            (&b""[..], "the bytes end too early", 0),
            (b"\x82\x01", "the bytes end too early", 2),
            (b"\x65abc", "the bytes end too early", 1),
            (b"\x01\x02", "more bytes follow the value", 1),
            (b"\xff", "a break ends nothing", 1),
            (b"\x81\xff", "a break ends nothing", 2),
            (b"\xbf\x01\xff", "a break ends nothing", 3),
            (b"\x1c", "there is no value of CBOR", 0),
            (b"\x62\xff\xff", "there is no value of CBOR", 0),
        ] {
            let JsonError::Malformed { reason, offset } = refused(bytes) else {
                panic!("{bytes:02x?} is malformed")
            };
            assert_eq!((reason, offset), (expected, place), "{bytes:02x?}");
        }
        assert_eq!(refused(b"\xff").code(), Code::StateBadBytes);
    }

    #[test]
    fn few_bytes_that_claim_much_take_no_memory_and_depth_is_bounded() {
        for claim in [b"\x9b", b"\xbb", b"\x5b", b"\x7b"] {
            let bytes = [&claim[..], &[0x0f; 8]].concat();
            assert!(matches!(refused(&bytes), JsonError::Malformed { .. }));
        }
        for opening in [&b"\x81"[..], b"\x9f", b"\xc6", b"\xa1\x00", b"\xa1"] {
            let JsonError::Malformed { reason, .. } = refused(&opening.repeat(100_000)) else {
                panic!("it is too deep")
            };
            assert_eq!(reason, "it is nested too deeply");
        }
        let mut deepest = vec![0x81; DEPTH_MAX];
        deepest.push(0);
        shown(&deepest);
    }

    #[test]
    fn more_values_than_can_be_shown_are_refused() {
        let mut many = vec![0x9f];
        many.resize(ITEMS_MAX + 1, 0);
        many.push(0xff);
        let error = refused(&many);
        assert_eq!(error, JsonError::TooMany { limit: ITEMS_MAX });
        assert_eq!(error.code(), Code::StateNotShown);
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = to_json(&bytes);
        }

        #[test]
        fn integers_and_finite_floats_are_exact(unsigned in any::<u64>(), signed in any::<i64>(), float in any::<f64>()) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&(unsigned, signed, float), &mut bytes).expect("memory");
            let value = shown(&bytes);
            prop_assert_eq!(value[0].as_u64(), Some(unsigned));
            prop_assert_eq!(value[1].as_i64(), Some(signed));
            if float.is_finite() {
                prop_assert_eq!(value[2].as_f64(), Some(float));
            }
        }
    }
}
