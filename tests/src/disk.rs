//! A disk that hangs, for the stores of tables: a file that this process has open
//! becomes a pipe that nobody reads.
//!
//! # Panics
//! All of it, when the system does not do as it should.

use std::{
    fs,
    io::{self, PipeReader, Write},
    os::fd::AsRawFd,
    path::Path,
};

/// Whoever writes to a store waits while this lives, and fails afterwards.
#[must_use = "dropping it ends the wait"]
pub struct HangingDisk(#[expect(dead_code, reason = "the end that nobody reads")] PipeReader);

impl HangingDisk {
    /// The disk of the stores in `folder` that are open hangs from now on.
    pub fn below(folder: &Path) -> HangingDisk {
        let (reader, mut writer) = io::pipe().expect("makes a pipe");
        // SAFETY: asks for a number, of a descriptor that is open.
        let room = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
        writer.write_all(&vec![0; room.try_into().expect("a size")]).expect("fills it");
        let is_journal = |file: &Path| file.starts_with(folder) && file.extension() == Some("jnl".as_ref());
        let journals: Vec<i32> = fs::read_dir("/proc/self/fd")
            .expect("Linux tells")
            .filter_map(|link| link.ok().map(|link| link.path()))
            .filter(|link| fs::read_link(link).is_ok_and(|file| is_journal(&file)))
            .filter_map(|link| link.file_name()?.to_str()?.parse().ok())
            .collect();
        assert!(!journals.is_empty(), "no store is open in {}", folder.display());
        for journal in journals {
            // SAFETY: the number stays that of an open file, and its owner's to close.
            let taken = unsafe { libc::dup2(writer.as_raw_fd(), journal) };
            assert_eq!(taken, journal, "{}", io::Error::last_os_error());
        }
        HangingDisk(reader)
    }
}
