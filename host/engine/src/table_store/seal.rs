//! The seal of a volume: the number of the last commit that was acknowledged,
//! kept outside the database.
//!
//! A database that loses the end of its journal opens as if that had never
//! been; the seal says that it had been. It is written after each commit and
//! before anybody is told, in place, and not synced: after a crash of the
//! process it is exact. After a power loss it may say less than there is, which
//! means nothing, or more, which is a loss if the commits were never synced.
//! Which of the two it was is told by the number that Linux gives each boot.
//!
//! A second one, the witness, lies outside of the store's folder and says the same:
//! it has seen a store that is gone, or was replaced with an older copy.

use super::error::{TableStoreError, io_error};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use twox_hash::XxHash3_64;

const VERSION: u8 = 1;
const BODY_BYTES: usize = 1 + 8 + 16;
/// In one sector, so that it is written whole or not at all.
const SEAL_BYTES: usize = BODY_BYTES + 4;

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The last commit that was acknowledged.
    pub(super) commit: u64,
    /// The boot of the machine in which it was.
    pub(super) boot: u128,
}

/// The file.
#[derive(Debug)]
pub(super) struct Seal {
    file: File,
    path: PathBuf,
}

impl Seal {
    /// A new seal, synced.
    pub(super) fn create(path: PathBuf, sealed: Sealed) -> Result<Seal, TableStoreError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        let seal = Seal { file, path };
        seal.write(sealed)?;
        seal.sync()?;
        Ok(seal)
    }

    /// The seal that is there, and what it says; `None` if it is damaged.
    pub(super) fn open(path: PathBuf) -> Result<(Seal, Option<Sealed>), TableStoreError> {
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let file = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
        Ok((Seal { file, path }, decode(&bytes)))
    }

    pub(super) fn write(&self, sealed: Sealed) -> Result<(), TableStoreError> {
        self.file.write_all_at(&encode(sealed), 0).map_err(io_error("write", &self.path))
    }

    pub(super) fn sync(&self) -> Result<(), TableStoreError> {
        self.file.sync_all().map_err(io_error("sync", &self.path))
    }
}

/// The number of this boot; 0 if the system does not say.
pub(super) fn current_boot() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

fn encode(sealed: Sealed) -> [u8; SEAL_BYTES] {
    let mut bytes = [0; SEAL_BYTES];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&sealed.commit.to_le_bytes());
    bytes[9..BODY_BYTES].copy_from_slice(&sealed.boot.to_le_bytes());
    let sum = XxHash3_64::oneshot(&bytes[..BODY_BYTES]) as u32;
    bytes[BODY_BYTES..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Sealed> {
    let commit = u64::from_le_bytes(*bytes.get(1..)?.first_chunk()?);
    let boot = u128::from_le_bytes(*bytes.get(9..)?.first_chunk()?);
    let sealed = Sealed { commit, boot };
    (encode(sealed) == bytes).then_some(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_says_what_was_written_and_no_damaged_one_says_anything() {
        let sealed = Sealed { commit: 7, boot: current_boot() };
        assert_ne!(sealed.boot, 0, "Linux has a boot number");
        let bytes = encode(sealed);
        assert_eq!(decode(&bytes), Some(sealed));
        for bit in 0..SEAL_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for length in 0..SEAL_BYTES {
            assert_eq!(decode(&bytes[..length]), None);
        }
    }
}
