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
//! | `encoding` | text | how the payload is packed: `identity` or `zstd` |
//! | `length` | integer | bytes of the state, unpacked |
//! | `payload` | bytes | the state, as the plugin's SDK encoded it, packed |
//! | `sha256` | 32 bytes | of every byte of the envelope before its own value |
//!
//! `sha256` comes last, so that no field escapes it, also none that a later
//! version adds, and is checked before anything is unpacked. A host skips fields
//! that it does not know; a change that it must not skip takes a new `format`,
//! another packing a new `encoding`. The payload is opaque here: it is neither
//! read nor migrated.

mod packing;
#[cfg(test)]
mod tests;

use crate::failure::{Code, Failure};
use packing::Packed;
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

/// The end of every envelope up to the digest's value: the key `sha256`, and
/// the head of 32 bytes.
const SEAL: &[u8] = b"\x66sha256\x58\x20";
pub(super) const DIGEST_BYTES: usize = 32;

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
    /// The envelope's bytes. The payload is packed where that makes it smaller.
    pub fn seal(&self) -> Sealed {
        let packed = Packed::of(&self.payload);
        let wire = Wire {
            format: FORMAT,
            plugin: self.plugin.as_str().into(),
            schema_version: self.schema_version,
            plugin_version: self.plugin_version.to_string().into(),
            taken_at_unix_ms: self.taken_at_unix_ms,
            encoding: packed.encoding.into(),
            length: self.payload.len() as u64,
            payload: Bytes(packed.bytes.as_ref().into()),
            sha256: Bytes((&[0; DIGEST_BYTES]).into()),
        };
        let mut bytes = Vec::with_capacity(packed.bytes.len() + TYPICAL_OVERHEAD_BYTES);
        ciborium::into_writer(&wire, &mut bytes)
            .expect("writing to memory cannot fail, and every field has a CBOR form");
        let before = bytes.len() - DIGEST_BYTES;
        let sha256 = digest(&bytes[..before]);
        bytes[before..].copy_from_slice(&sha256);
        Sealed { bytes, sha256 }
    }

    /// The envelope that `bytes` hold, once every check has passed. Its state may
    /// have `max_state_bytes`: whatever the bytes claim, no more is unpacked than
    /// the length that they declare.
    ///
    /// # Errors
    /// One [`EnvelopeError`] per check, in the order: complete, undamaged,
    /// readable, known format, within the limit, known encoding, declared length.
    pub fn open(bytes: &[u8], max_state_bytes: u64) -> Result<Self, EnvelopeError> {
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
            Ok(wire) => wire.into_envelope(max_state_bytes),
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
    #[error("the state envelope's payload is encoded as {found:?}, and this host reads {}", packing::KNOWN)]
    Encoding {
        /// As the envelope says.
        found: String,
    },
    /// The state is shorter or longer than declared.
    #[error("the state envelope declares {declared} bytes of state and holds {actual}")]
    Length {
        /// As the envelope says.
        declared: u64,
        /// As it is.
        actual: u64,
    },
    /// The digest is right, but the payload does not unpack to what is declared.
    #[error("the state envelope's payload does not unpack to {declared} bytes: {reason}")]
    Packing {
        /// As the envelope says.
        declared: u64,
        /// What the decoder said.
        reason: String,
    },
    /// The state is larger than allowed; it was not unpacked.
    #[error("the state envelope holds {declared} bytes of state, and {limit} are allowed")]
    TooLarge {
        /// As the envelope says.
        declared: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
}

impl Failure for EnvelopeError {
    fn code(&self) -> Code {
        match self {
            EnvelopeError::Format { .. } | EnvelopeError::Encoding { .. } => Code::StateFormat,
            EnvelopeError::TooLarge { .. } => Code::StateTooLarge,
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
    fn into_envelope(self, max_state_bytes: u64) -> Result<Envelope, EnvelopeError> {
        Format { format: self.format }.check()?;
        if self.length > max_state_bytes {
            return Err(EnvelopeError::TooLarge { declared: self.length, limit: max_state_bytes });
        }
        let payload = packing::unpack(&self.encoding, self.payload.0, self.length)?;
        let plugin_version = Version::parse(&self.plugin_version)
            .map_err(|error| EnvelopeError::Malformed { reason: format!("plugin_version: {error}") })?;
        Ok(Envelope {
            plugin: self.plugin.into_owned(),
            schema_version: self.schema_version,
            plugin_version,
            taken_at_unix_ms: self.taken_at_unix_ms,
            payload,
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

pub(super) fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
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
