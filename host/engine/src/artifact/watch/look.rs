//! What the kernel tells about a file: what it is, and whether a writer has it
//! open. The only system calls of the watch; nothing here decides anything.
//!
//! Whether a writer is there is asked by taking a read lease
//! (`fcntl(F_SETLEASE, F_RDLCK)`) and giving it back at once. The kernel
//! refuses it with `EAGAIN` while any descriptor or shared mapping may write to
//! the file, under whatever name it was opened; no scan of `/proc` could know
//! that without privileges.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How coarse a file system's times may be: a write within this time of a look
/// may leave the times as they were (the kernel's tick is 1 to 10 ms).
const TIME_GRAIN: Duration = Duration::from_millis(20);

/// A state of a file as far as its metadata can tell it from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size_bytes: u64,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

/// Whether somebody may be writing to a file at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// No descriptor or mapping can write to it.
    None,
    /// At least one can.
    Open,
    /// The kernel would not say: another user's file, or a file system without
    /// leases.
    Unknown,
}

/// One look at a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) fingerprint: Fingerprint,
    /// Not so for links, pipes, devices, sockets and folders.
    pub(super) is_regular: bool,
    /// Names that the file has.
    pub(super) links: u64,
    pub(super) writer: Writer,
    /// The file's times are old enough that any later write must change them.
    pub(super) is_aged: bool,
}

/// What came of a look.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    /// There is a file.
    File(Look),
    /// There is none.
    Gone,
    /// It could not be looked at; nothing is known.
    Unknown,
}

/// Only these names count: `*.so`, and not hidden. Writers use every other name
/// for files that are not yet meant.
pub(super) fn is_plugin_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() > 3 && name.ends_with(b".so") && !name.starts_with(b".")
}

/// Looks at `path` itself, never at what a link points to. Never blocks: what is
/// not a regular file is not opened.
pub(super) fn look(path: &Path) -> Looked {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return gone_or_unknown(&error),
    };
    if !metadata.is_file() {
        return Looked::File(look_from(&metadata, Writer::Unknown));
    }
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = opened else {
        // Not readable: the next stage says so. Removed since: the event says so.
        return Looked::File(look_from(&metadata, Writer::Unknown));
    };
    let writer = writer_of(&file);
    match file.metadata() {
        Ok(metadata) => Looked::File(look_from(&metadata, writer)),
        Err(_) => Looked::Unknown,
    }
}

/// The plugin files of a directory; at most `max_files`, which the flag tells.
pub(super) fn scan(directory: &Path, max_files: usize) -> io::Result<(Vec<(OsString, Fingerprint)>, bool)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_plugin_name(&name) {
            continue;
        }
        if files.len() == max_files {
            return Ok((files, true));
        }
        // `DirEntry::metadata` does not follow links. A file that is gone again
        // is no file.
        if let Ok(metadata) = entry.metadata() {
            files.push((name, fingerprint_of(&metadata)));
        }
    }
    Ok((files, false))
}

/// The name of the file system if other machines, or a process of this one, may
/// change it without an event reaching us.
pub(super) fn remote_file_system(directory: &Path) -> Option<&'static str> {
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is a C string and `info` is writable; both outlive the call.
    let status = unsafe { libc::statfs(path.as_ptr(), info.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: statfs returned 0, so it has filled `info`.
    let magic = unsafe { info.assume_init() }.f_type;
    // The field is signed on some targets; a magic number is 32 bits.
    remote_by_magic(magic as u32)
}

fn remote_by_magic(magic: u32) -> Option<&'static str> {
    // From statfs(2) and linux/magic.h.
    match magic {
        0x0000_6969 => Some("nfs"),
        0x0000_517b | 0xfe53_4d42 | 0xff53_4d42 => Some("smb"),
        0x6573_5546 => Some("fuse"),
        0x0102_1997 => Some("9p"),
        0x00c3_6400 => Some("ceph"),
        0x5346_414f | 0x6b41_4653 => Some("afs"),
        0x786f_4256 => Some("vboxsf"),
        _ => None,
    }
}

fn gone_or_unknown(error: &io::Error) -> Looked {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Looked::Gone,
        _ => Looked::Unknown,
    }
}

/// Takes a read lease and gives it back.
fn writer_of(file: &File) -> Writer {
    /// `F_SETSIG` of fcntl(2), which the crate libc does not name.
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // A writer who opens the file in the microseconds between these calls waits
    // for the lease, and the kernel sends a signal to its holder: SIGIO, which
    // by default ends the process, unless another is chosen. SIGURG is ignored
    // by default. Without that choice no lease is asked for.
    // SAFETY: `fd` is open for the length of the calls; these commands take an
    // integer and touch no memory of ours.
    let lease = unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return Writer::Unknown;
        }
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK)
    };
    if lease == 0 {
        // SAFETY: as above. Should it fail, closing the file ends the lease.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writer::None;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writer::Open,
        // EACCES: another user's file. EINVAL: a file system without leases.
        _ => Writer::Unknown,
    }
}

fn look_from(metadata: &Metadata, writer: Writer) -> Look {
    let fingerprint = fingerprint_of(metadata);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
    Look {
        fingerprint,
        is_regular: metadata.is_file(),
        links: metadata.nlink(),
        writer,
        is_aged: now_ns - fingerprint.changed_ns >= TIME_GRAIN.as_nanos() as i128,
    }
}

fn fingerprint_of(metadata: &Metadata) -> Fingerprint {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        size_bytes: metadata.len(),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn writer_at(path: &Path) -> Writer {
        match look(path) {
            Looked::File(look) => look.writer,
            other => panic!("no file: {other:?}"),
        }
    }

    #[test]
    fn the_kernel_tells_of_a_writer_through_any_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one.so"), dir.path().join("two.so"));
        let mut writer = File::create(&one).expect("a file");
        writer.write_all(b"half").expect("written");
        fs::hard_link(&one, &two).expect("a link");
        assert_eq!(writer_at(&one), Writer::Open);
        assert_eq!(writer_at(&two), Writer::Open);
        drop(writer);
        let reader = File::open(&one).expect("readable");
        assert_eq!(writer_at(&one), Writer::None);
        assert_eq!(writer_at(&two), Writer::None);
        drop(reader);
    }

    #[test]
    fn a_writer_who_comes_during_the_lease_does_not_kill_the_process() {
        // With the default signal, SIGIO, this ended the process.
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("busy.so");
        fs::write(&path, b"content").expect("written");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..2_000 {
                    OpenOptions::new().write(true).open(&path).expect("opened");
                }
            });
            while !writer.is_finished() {
                look(&path);
            }
        });
    }

    #[test]
    fn only_visible_shared_objects_count() {
        for good in ["a.so", "libmarkdown-1.2.0.so", "A.so"] {
            assert!(is_plugin_name(OsStr::new(good)), "{good}");
        }
        for bad in [".so", ".hidden.so", "a.so.tmp", "a.so~", "a.SO", "aso", "", "a.so.1"] {
            assert!(!is_plugin_name(OsStr::new(bad)), "{bad}");
        }
    }

    #[test]
    fn file_systems_without_events_are_known_by_their_magic_number() {
        const EXT4: u32 = 0xef53;
        assert_eq!(remote_by_magic(0x6969), Some("nfs"));
        assert_eq!(remote_by_magic(0x6573_5546), Some("fuse"));
        assert_eq!(remote_by_magic(EXT4), None);
        assert_eq!(remote_file_system(Path::new("/proc")), None);
    }
}
