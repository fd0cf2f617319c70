//! Who could have written a file: its owner and its permissions, and those of the
//! folder in which others could have put another in its place.
//!
//! The folders above are the operator's to look after, as those of any program are.

use super::error::TrustError;
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// May write: the group, and everybody.
const OTHERS_WRITE: u32 = 0o022;

/// Nobody but root and the user of this process can have written what was read from
/// `path`; `metadata` is that of the descriptor which was read.
pub(super) fn check(path: &Path, metadata: &Metadata) -> Result<(), TrustError> {
    check_one(path, (metadata.uid(), metadata.mode()), own_user())?;
    check_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Nobody but root and the user of this process can put anything into a folder.
pub(crate) fn check_folder(folder: &Path) -> Result<(), TrustError> {
    let unreadable = |source| TrustError::Unreadable { path: folder.into(), source };
    let metadata = fs::metadata(folder).map_err(unreadable)?;
    check_one(folder, (metadata.uid(), metadata.mode()), own_user())
}

fn own_user() -> u32 {
    // SAFETY: always succeeds, and touches no memory.
    unsafe { libc::geteuid() }
}

fn check_one(path: &Path, (owner, mode): (u32, u32), host: u32) -> Result<(), TrustError> {
    let mode = mode & 0o7777;
    if owner != 0 && owner != host {
        return Err(TrustError::Owner { path: path.into(), owner, host });
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(TrustError::Writable { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Code, Failure};

    #[test]
    fn files_of_others_and_files_that_others_may_write_are_refused() {
        let host = 1000;
        for (owner, mode, refused) in [
            (0, 0o644, None),
            (host, 0o100_600, None),
            (host, 0o755, None),
            (1001, 0o644, Some(Code::TrustOwner)),
            (0, 0o664, Some(Code::TrustWritable)),
            (host, 0o602, Some(Code::TrustWritable)),
            (host, 0o1777, Some(Code::TrustWritable)),
        ] {
            let judged = check_one(Path::new("a.so"), (owner, mode), host);
            assert_eq!(judged.err().map(|error| error.code()), refused, "{owner} {mode:o}");
        }
    }
}
