//! The state envelope: a plugin's exported state, with what is needed to trust
//! it and to find its way into another version.
//!
//! The form is a frozen contract: one CBOR map by field name,
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `format` | integer | version of this form; 1 |
//! | `plugin` | text | the plugin's name |
//! | `schema_version` | integer | the payload's schema version |
//! | `plugin_version` | text | semver of the version that exported it |
//! | `taken_at_unix_ms` | integer | wall clock, for people; nothing is ordered by it |
//! | `encoding` | text | how the payload is packed; `identity` |
//! | `length` | integer | bytes of the payload |
//! | `payload` | bytes | the state, as the plugin's SDK encoded it |
//! | `sha256` | 32 bytes | of every byte of the envelope before its own value |
//!
//! `sha256` comes last, so that no field escapes it, also none that a later
//! version adds. A host skips fields that it does not know; a change that it
//! must not skip takes a new `format`. The payload is opaque here: it is neither
//! read nor migrated.
//!
//! long: a quarter of it is the frozen form and its tests.

use crate::failure::{Code, Failure};
use semver::Version;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

/// The version of the envelope that this host writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// What an envelope takes beside the payload, at most, in bytes: name and
/// version come from an ELF note, which has 64 KiB at most.
pub(super) const OVERHEAD_BYTES: u64 = 128 * 1024;

/// The only encoding so far: the payload as it is.
const IDENTITY: &str = "identity";

/// The end of every envelope up to the digest's value: the key `sha256`, and
/// the head of 32 bytes.
const SEAL: &[u8] = b"\x66sha256\x58\x20";
const DIGEST_BYTES: usize = 32;

/// Saves a reallocation; nothing depends on it.
const TYPICAL_OVERHEAD_BYTES: usize = 512;

/// A plugin's state at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The plugin's name.
    pub plugin: String,
    /// The payload's schema version.
    pub schema_version: u32,
    /// The plugin version that exported the state.
    pub plugin_version: Version,
    /// When, in milliseconds since 1970 by the wall clock.
    pub taken_at_unix_ms: u64,
    /// The state as the plugin exported it.
    pub payload: Vec<u8>,
}

/// An envelope's bytes, and the digest that ends them.
#[derive(Debug)]
pub struct Sealed {
    /// The whole envelope.
    pub bytes: Vec<u8>,
    /// SHA-256 of all bytes before it.
    pub sha256: [u8; DIGEST_BYTES],
}

impl Envelope {
    /// The envelope's bytes; the payload is copied once.
    pub fn seal(&self) -> Sealed {
        let wire = Wire {
            format: FORMAT,
            plugin: self.plugin.as_str().into(),
            schema_version: self.schema_version,
            plugin_version: self.plugin_version.to_string().into(),
            taken_at_unix_ms: self.taken_at_unix_ms,
            encoding: IDENTITY.into(),
            length: self.payload.len() as u64,
            payload: Bytes(self.payload.as_slice().into()),
            sha256: Bytes((&[0; DIGEST_BYTES]).into()),
        };
        let mut bytes = Vec::with_capacity(self.payload.len() + TYPICAL_OVERHEAD_BYTES);
        ciborium::into_writer(&wire, &mut bytes)
            .expect("writing to memory cannot fail, and every field has a CBOR form");
        let before = bytes.len() - DIGEST_BYTES;
        let sha256 = digest(&bytes[..before]);
        bytes[before..].copy_from_slice(&sha256);
        Sealed { bytes, sha256 }
    }

    /// The envelope that `bytes` hold, once every check has passed.
    ///
    /// # Errors
    /// One [`EnvelopeError`] per check, in the order: complete, undamaged,
    /// readable, known format, known encoding, declared length.
    pub fn open(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let sealed = bytes.len().checked_sub(DIGEST_BYTES).map(|end| bytes.split_at(end));
        let (before, expected) = match sealed {
            Some((before, digest)) if before.ends_with(SEAL) => (before, digest),
            _ => {
                return Err(EnvelopeError::Incomplete { length: bytes.len() });
            }
        };
        let actual = digest(before);
        if actual != expected {
            let expected = hex(expected);
            return Err(EnvelopeError::Digest { expected, actual: hex(&actual) });
        }
        match read::<Wire<'_>>(bytes) {
            Ok(wire) => wire.into_envelope(),
            // Another format need not have the fields of this one.
            Err(error) => match read::<Format>(bytes) {
                Ok(format) => format.check().and(Err(error)),
                Err(_) => Err(error),
            },
        }
    }
}

/// Why bytes are not an envelope that this host can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The digest that ends every envelope is not there.
    #[error("the state envelope of {length} bytes does not end in its digest; a part is missing")]
    Incomplete {
        /// Bytes that are there.
        length: usize,
    },
    /// Some bit is not what was written.
    #[error("the state envelope is damaged: its sha256 is {actual}, and should be {expected}")]
    Digest {
        /// As the envelope says.
        expected: String,
        /// As its bytes are.
        actual: String,
    },
    /// The digest is right, but a field is missing or of the wrong type.
    #[error("the state envelope cannot be read: {reason}")]
    Malformed {
        /// What the decoder said.
        reason: String,
    },
    /// Written by a newer host.
    #[error("the state envelope has format {found}, and this host reads {supported}")]
    Format {
        /// As the envelope says.
        found: u32,
        /// What this host reads.
        supported: u32,
    },
    /// Packed in a way that this host does not know.
    #[error("the state envelope's payload is encoded as {found:?}, and this host reads \"identity\"")]
    Encoding {
        /// As the envelope says.
        found: String,
    },
    /// The payload is shorter or longer than declared.
    #[error("the state envelope declares {declared} bytes of payload and holds {actual}")]
    Length {
        /// As the envelope says.
        declared: u64,
        /// As it is.
        actual: u64,
    },
}

impl Failure for EnvelopeError {
    fn code(&self) -> Code {
        match self {
            EnvelopeError::Format { .. } | EnvelopeError::Encoding { .. } => Code::StateFormat,
            _ => Code::StateCorrupt,
        }
    }
}

/// The envelope as it is written; the order of the fields is the order of the
/// bytes.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    format: u32,
    plugin: Cow<'a, str>,
    schema_version: u32,
    plugin_version: Cow<'a, str>,
    taken_at_unix_ms: u64,
    encoding: Cow<'a, str>,
    length: u64,
    payload: Bytes<'a>,
    sha256: Bytes<'a>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Format {
    fn check(&self) -> Result<(), EnvelopeError> {
        match self.format {
            FORMAT => Ok(()),
            found => Err(EnvelopeError::Format { found, supported: FORMAT }),
        }
    }
}

impl Wire<'_> {
    fn into_envelope(self) -> Result<Envelope, EnvelopeError> {
        Format { format: self.format }.check()?;
        if self.encoding != IDENTITY {
            return Err(EnvelopeError::Encoding { found: self.encoding.into_owned() });
        }
        let actual = self.payload.0.len() as u64;
        if self.length != actual {
            return Err(EnvelopeError::Length { declared: self.length, actual });
        }
        let plugin_version = Version::parse(&self.plugin_version)
            .map_err(|error| EnvelopeError::Malformed { reason: format!("plugin_version: {error}") })?;
        Ok(Envelope {
            plugin: self.plugin.into_owned(),
            schema_version: self.schema_version,
            plugin_version,
            taken_at_unix_ms: self.taken_at_unix_ms,
            payload: self.payload.0.into_owned(),
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest)
        .map_err(|error| EnvelopeError::Malformed { reason: error.to_string() })?;
    match rest.len() {
        0 => Ok(value),
        more => Err(EnvelopeError::Malformed { reason: format!("{more} bytes follow its end") }),
    }
}

fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::digest(bytes).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A CBOR byte string; serde's own form of bytes is an array of numbers.
struct Bytes<'a>(Cow<'a, [u8]>);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Owned;
        impl Visitor<'_> for Owned {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        Ok(Bytes(deserializer.deserialize_byte_buf(Owned)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium::Value;
    use proptest::prelude::*;

    fn sample() -> Envelope {
        Envelope {
            plugin: "rate-limit".into(),
            schema_version: 2,
            plugin_version: Version::new(1, 4, 0),
            taken_at_unix_ms: 1_732_150_000_123,
            payload: b"\xa1\x64hits\x07".to_vec(),
        }
    }

    /// An envelope of other fields, with a right digest.
    fn sealed(fields: &[(&str, Value)]) -> Vec<u8> {
        let mut fields: Vec<_> =
            fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
        fields.push((Value::from("sha256"), Value::Bytes(vec![0; DIGEST_BYTES])));
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Map(fields), &mut bytes).expect("memory");
        let before = bytes.len() - DIGEST_BYTES;
        let sha256 = digest(&bytes[..before]);
        bytes[before..].copy_from_slice(&sha256);
        bytes
    }

    fn fields() -> Vec<(&'static str, Value)> {
        vec![
            ("format", 1.into()),
            ("plugin", "rate-limit".into()),
            ("schema_version", 2.into()),
            ("plugin_version", "1.4.0".into()),
            ("taken_at_unix_ms", 1_732_150_000_123_u64.into()),
            ("encoding", "identity".into()),
            ("length", 7.into()),
            ("payload", Value::Bytes(sample().payload)),
        ]
    }

    fn with(name: &str, value: Value) -> Vec<u8> {
        let mut fields = fields();
        for field in &mut fields {
            if field.0 == name {
                field.1 = value.clone();
            }
        }
        sealed(&fields)
    }

    /// The contract. If this fails, files that operators have can no longer be
    /// read: take a new format and keep reading this one, do not edit the test.
    #[test]
    fn the_form_of_the_envelope_is_frozen() {
        let golden = concat!(
            "a9",
            "66666f726d6174",
            "01",
            "66706c7567696e",
            "6a726174652d6c696d6974",
            "6e736368656d615f76657273696f6e",
            "02",
            "6e706c7567696e5f76657273696f6e",
            "65312e342e30",
            "7074616b656e5f61745f756e69785f6d73",
            "1b000001934c2f79fb",
            "68656e636f64696e67",
            "686964656e74697479",
            "666c656e677468",
            "07",
            "677061796c6f6164",
            "47a1646869747307",
            "66736861323536",
            "5820",
            "d29ae9a1588a73115f188abf8a9be77eb313f760f030a46c8cdaf4012e776269",
        );
        let bytes = sample().seal().bytes;
        assert_eq!(hex(&bytes), golden);
        assert_eq!(Envelope::open(&bytes), Ok(sample()));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped_and_still_under_the_digest() {
        let mut later = fields();
        later.insert(3, ("signed_by", Value::Array(vec!["someone".into()])));
        let mut bytes = sealed(&later);
        assert_eq!(Envelope::open(&bytes), Ok(sample()));
        let place = bytes.windows(7).position(|text| text == b"someone").expect("is there");
        bytes[place] ^= 1;
        assert!(matches!(Envelope::open(&bytes), Err(EnvelopeError::Digest { .. })));
    }

    #[test]
    fn every_check_has_its_own_error() {
        use EnvelopeError as E;
        let whole = sample().seal().bytes;
        let error = |bytes: &[u8]| Envelope::open(bytes).expect_err("must be refused");
        assert!(matches!(error(&whole[..whole.len() - 1]), E::Incomplete { .. }));
        assert!(matches!(error(b""), E::Incomplete { length: 0 }));
        assert!(matches!(error(&with("format", 2.into())), E::Format { found: 2, supported: 1 }));
        assert!(matches!(error(&sealed(&[("format", 9.into())])), E::Format { found: 9, .. }));
        assert!(matches!(error(&sealed(&[("format", 1.into())])), E::Malformed { .. }));
        assert!(matches!(error(&with("length", 8.into())), E::Length { declared: 8, actual: 7 }));
        assert!(matches!(error(&with("plugin_version", "1".into())), E::Malformed { .. }));
        assert!(matches!(error(&with("payload", "text".into())), E::Malformed { .. }));
        let E::Encoding { found } = error(&with("encoding", "zstd".into())) else {
            panic!("an unknown encoding must be named");
        };
        assert_eq!(found, "zstd");
        assert_eq!(error(&with("encoding", "zstd".into())).code(), Code::StateFormat);
        assert_eq!(error(&with("length", 8.into())).code(), Code::StateCorrupt);
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_and_no_flipped_bit_goes_unseen(
            plugin in ".{1,40}",
            schema_version in any::<u32>(),
            taken_at_unix_ms in any::<u64>(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let plugin_version = Version::new(1, 2, 3);
            let envelope =
                Envelope { plugin, schema_version, plugin_version, taken_at_unix_ms, payload };
            let mut bytes = envelope.seal().bytes;
            prop_assert_eq!(Envelope::open(&bytes), Ok(envelope));
            let place = place.index(bytes.len());
            bytes[place] ^= 1_u8 << bit;
            prop_assert!(Envelope::open(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Envelope::open(&bytes).is_err());
        }
    }
}
