//! A disk that hangs, for the stores of tables: a file that this process has open
//! becomes a pipe that nobody reads, or somebody does for one write after the other.
//!
//! # Panics
//! All of it, when the system does not do as it should.

use std::{
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
    thread,
};

/// The bytes that a pipe of the smallest size has room for; one write has at most as
/// many here.
const PAGE: usize = 4096;

/// Whoever writes to a store waits while this lives, and fails afterwards.
#[must_use = "dropping it ends the wait"]
pub struct HangingDisk {
    /// Full: of one write that is on the disk, or never was to be.
    pipe: PipeReader,
    /// What the files were.
    journals: Vec<File>,
}

impl HangingDisk {
    /// The disk of the stores in `folder` that are open hangs from now on.
    pub fn below(folder: &Path) -> HangingDisk {
        let (pipe, mut writer) = io::pipe().expect("makes a pipe");
        let of_pipe = |command: i32, value: i32| {
            // SAFETY: sets a number, of a descriptor that is open.
            unsafe { libc::fcntl(writer.as_raw_fd(), command, value) }
        };
        assert!(of_pipe(libc::F_SETPIPE_SZ, PAGE as i32) == PAGE as i32, "{}", io::Error::last_os_error());
        // Each write stays one, and takes all the room.
        assert!(of_pipe(libc::F_SETFL, libc::O_DIRECT) == 0, "{}", io::Error::last_os_error());
        writer.write_all(&[0; PAGE]).expect("fills it");
        let journals = opened(folder, |file| file.extension() == Some("jnl".as_ref()));
        let journals = journals.into_iter().map(|journal| exchange(journal, &writer)).collect();
        HangingDisk { pipe, journals }
    }

    /// Has so many writes of the only store end, one after the other; the next one
    /// hangs. Waits for them.
    pub fn let_through(&mut self, writes: usize) {
        for _ in 0..writes {
            assert!(self.let_one_through(), "the store is closed");
        }
    }

    /// The disk of the only store works again.
    pub fn works_again(mut self) {
        thread::spawn(move || while self.let_one_through() {});
    }

    /// Whether there was one before the store was closed.
    fn let_one_through(&mut self) -> bool {
        let [journal] = &mut self.journals[..] else { panic!("there are several stores") };
        _ = self.pipe.read(&mut [0; PAGE]).expect("is full");
        let (mut copy, into) = io::pipe().expect("makes a pipe");
        // SAFETY: of descriptors that are open; what is written stays where it is, so
        // that there is no room for the next write.
        let bytes = unsafe { libc::tee(self.pipe.as_raw_fd(), into.as_raw_fd(), PAGE, 0) };
        let mut write = vec![0; bytes.try_into().expect("waits for a write")];
        copy.read_exact(&mut write).expect("is there");
        journal.write_all(&write).expect("room");
        !write.is_empty()
    }
}

/// The disk of the stores in `folder` that are open takes no seals from now on: they
/// fail when they have written what they are to seal.
pub fn take_no_seals(folder: &Path) {
    let (_, pipe) = io::pipe().expect("makes a pipe");
    for seal in opened(folder, |file| file.ends_with("seal")) {
        // A pipe has no place to write to.
        drop(exchange(seal, &pipe));
    }
}

/// Files below a folder that are open.
fn opened(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Vec<i32> {
    let opened: Vec<i32> = fs::read_dir("/proc/self/fd")
        .expect("Linux tells")
        .filter_map(|link| link.ok().map(|link| link.path()))
        .filter(|link| fs::read_link(link).is_ok_and(|file| file.starts_with(folder) && is_wanted(&file)))
        .filter_map(|link| link.file_name()?.to_str()?.parse().ok())
        .collect();
    assert!(!opened.is_empty(), "no store is open in {}", folder.display());
    opened
}

/// Puts the pipe in the place of a file, which is returned.
fn exchange(journal: i32, pipe: &PipeWriter) -> File {
    // SAFETY: the number is that of an open file.
    let file = unsafe { BorrowedFd::borrow_raw(journal) }.try_clone_to_owned().expect("has room");
    // SAFETY: the number stays that of an open file, and its owner's to close.
    let taken = unsafe { libc::dup2(pipe.as_raw_fd(), journal) };
    assert_eq!(taken, journal, "{}", io::Error::last_os_error());
    file.into()
}
