//! How a payload is packed in its envelope: as it is, or by zstd where that is
//! smaller.
//!
//! What is unpacked never has more than the bytes that were declared, whatever
//! the packed bytes say: a few of them could unpack to gigabytes.

use super::EnvelopeError;
use std::borrow::Cow;

/// The encodings that are read, for messages.
pub(super) const KNOWN: &str = "\"identity\" and \"zstd\"";

/// The payload as it is.
const IDENTITY: &str = "identity";

/// Frames of zstd (RFC 8878).
const ZSTD: &str = "zstd";

/// Smaller payloads stay as they are. A map of short keys and numbers first gains
/// at 100 bytes, and a tenth at 128.
const WORTH_PACKING_BYTES: usize = 128;

/// On maps of short keys and numbers the fastest level packs to a third, as the
/// default does, in half the time: 2 ms for a megabyte.
const LEVEL: i32 = 1;

/// A payload as it lies in the envelope.
pub(super) struct Packed<'a> {
    pub(super) encoding: &'static str,
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> Packed<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Self {
        let smaller = (payload.len() >= WORTH_PACKING_BYTES)
            // Without memory for it, the payload goes as it is.
            .then(|| zstd::bulk::compress(payload, LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < payload.len());
        match smaller {
            Some(packed) => Packed { encoding: ZSTD, bytes: packed.into() },
            None => Packed { encoding: IDENTITY, bytes: payload.into() },
        }
    }
}

/// The payload, which has the `declared` bytes. The caller has checked that so
/// many are allowed.
pub(super) fn unpack(encoding: &str, packed: Cow<'_, [u8]>, declared: u64) -> Result<Vec<u8>, EnvelopeError> {
    let payload = match encoding {
        IDENTITY => packed.into_owned(),
        ZSTD => {
            let failed = |reason: String| EnvelopeError::Packing { declared, reason };
            let capacity = usize::try_from(declared).map_err(|error| failed(error.to_string()))?;
            zstd::bulk::decompress(&packed, capacity).map_err(|error| failed(error.to_string()))?
        }
        found => return Err(EnvelopeError::Encoding { found: found.to_owned() }),
    };
    let actual = payload.len() as u64;
    if actual == declared { Ok(payload) } else { Err(EnvelopeError::Length { declared, actual }) }
}
