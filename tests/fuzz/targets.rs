//! What is asked of everything that reads the bytes of others: an answer, on one line
//! where it is an error, and nothing that contradicts itself.
//!
//! Run by libFuzzer without end, each from its file in `fuzz_targets`, and by the tests
//! for a bounded number of inputs.

#[path = "../../host/daemon/src/config/mod.rs"]
#[allow(dead_code, reason = "read here, and not applied")]
mod config;

use replug_abi::note::records;
use replug_host::{
    artifact::{
        inspect::{Manifest, inspect as inspect_file},
        trust::Statement,
    },
    state::envelope::Envelope,
};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Room for the state of an envelope, in bytes: more is refused however small it was
/// packed.
const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A plugin file: a patch that is offered lies inside of it.
pub(crate) fn inspect(bytes: &[u8]) {
    match inspect_file(bytes, Path::new("fuzzed.so")) {
        Ok(inspected) => {
            if let Some(patch) = inspected.clear_nodelete {
                assert!(patch.offset + 8 <= bytes.len() as u64);
            }
        }
        Err(error) => one_line(&error),
    }
}

/// The description of a note: one that is accepted is whole.
pub(crate) fn note(bytes: &[u8]) {
    let is_whole = records(bytes).all(|record| record.is_ok());
    match Manifest::parse(bytes) {
        Ok(manifest) => assert!(is_whole, "accepted a damaged note: {manifest:?}"),
        Err(fault) => one_line(&fault),
    }
}

/// A file with a signature, and the comment that it signs: one that is read is written
/// so that it reads the same.
pub(crate) fn signature(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let signature = minisign_verify::Signature::decode(text).ok();
    let comment = signature.as_ref().map_or(text, |signature| signature.trusted_comment());
    match Statement::parse(comment) {
        Ok(statement) => {
            let written = statement.to_string();
            assert_eq!(Statement::parse(&written), Ok(statement));
        }
        Err(wrong) => one_line(&wrong),
    }
}

/// A configuration file: a mistake is told with its place.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = config::Config::parse(Path::new("fuzzed.toml"), text) {
        let told = error.to_string();
        assert!(told.starts_with("fuzzed.toml, line "), "{told}");
        one_line(&error);
    }
}

/// A saved state, as it is and sealed anew, so that what stands behind the seal is read:
/// one that is opened holds no more than is allowed, and is sealed and
/// opened again as it was.
pub(crate) fn envelope(bytes: &[u8]) {
    opened(bytes);
    if let Some((sealed, _)) = bytes.split_last_chunk::<32>() {
        opened(&[sealed, &Sha256::digest(sealed)].concat());
    }
}

fn opened(bytes: &[u8]) {
    match Envelope::open(bytes, STATE_BYTES_MAX) {
        Ok(envelope) => {
            assert!(envelope.payload.len() as u64 <= STATE_BYTES_MAX);
            let again = Envelope::open(&envelope.seal().bytes, STATE_BYTES_MAX);
            assert_eq!(again.expect("is sealed"), envelope);
        }
        Err(error) => one_line(&error),
    }
}

fn one_line(error: &dyn std::fmt::Display) {
    let told = error.to_string();
    assert!(!told.is_empty() && !told.contains('\n'), "{told:?}");
}
