//! A signature as a file: where it lies, what it is made of, and how to see that it is
//! another than before.

use super::error::TrustError;
use minisign_verify::{Error, Signature};
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What a signature's name has behind that of its file.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// The longest signature, in bytes: minisign's comments have 8,192 at most.
const BYTES_MAX: u64 = 20 * 1024;

/// Where the signature of a file is.
pub(crate) fn signature_of(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(SIGNATURE_SUFFIX);
    name.into()
}

/// The signature at `path`; none where nothing is. Never blocks, and follows no link.
pub(super) fn read(path: &Path) -> Result<Option<Signature>, TrustError> {
    let malformed = |reason| TrustError::Malformed { path: path.into(), reason };
    let unreadable = |source: io::Error| TrustError::Unreadable { path: path.into(), source };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(malformed("it is a symbolic link, which is not followed"));
        }
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(malformed("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(malformed("it is longer than any signature"));
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is no text"))?;
    Signature::decode(&text).map(Some).map_err(|error| malformed(reason(&error)))
}

/// What is wrong with a signature that cannot be checked.
pub(super) fn reason(error: &Error) -> &'static str {
    match error {
        Error::UnsupportedLegacyMode => "it is of the old kind; sign with minisign 0.10 or later",
        Error::UnsupportedAlgorithm | Error::UnexpectedAlgorithm => "it is of a kind that is not known",
        _ => "expected are two comments, and two lines of base64",
    }
}

/// What the judgement of a file depends on beside its bytes, by what tells one moment
/// from another: its signature, and who may write to its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    signature: Option<(u64, u64, [i64; 4])>,
    folder: Option<(u32, u32)>,
}

/// Looks at what stands beside a file.
pub(crate) fn seen(file: &Path) -> Seen {
    let signature = fs::symlink_metadata(signature_of(file)).ok().map(|found| {
        let times = [found.ctime(), found.ctime_nsec(), found.mtime(), found.mtime_nsec()];
        (found.ino(), found.size(), times)
    });
    let folder = file.parent().and_then(|folder| fs::metadata(folder).ok());
    Seen { signature, folder: folder.map(|found| (found.uid(), found.mode())) }
}
