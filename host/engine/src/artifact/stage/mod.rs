//! Takes a private copy of a dropped file: what is hashed is what is loaded.
//!
//! A file that may be truncated, overwritten or swapped by others is never
//! mapped: the process would die of it, or load something else. It is opened
//! once, checked, read once while it is hashed, and written under a name that
//! was never used before, which nobody else may change. All later stages see
//! only the copy.
//!
//! Nothing here looks at the content, and nothing here waits: what would block
//! (a pipe, a device) is refused before it is opened.

mod error;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use memmap2::{Mmap, MmapOptions};
use sha2::Digest as _;

use crate::clock::monotonic_ns;
use crate::id::Digest;
pub use error::{FileKind, StageError};

/// Bytes that are read, hashed and written at a time: they stay in the
/// processor's cache from one to the next.
const CHUNK_BYTES: usize = 128 * 1024;
const TEMPORARY_SUFFIX: &str = ".part";

/// What a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageLimits {
    /// The largest file, in bytes. Default 512 MiB.
    pub max_bytes: u64,
}

impl Default for StageLimits {
    fn default() -> Self {
        StageLimits { max_bytes: 512 * 1024 * 1024 }
    }
}

/// Makes private copies in one directory. May be used by several threads.
#[derive(Debug)]
pub struct Stager {
    directory: PathBuf,
    limits: StageLimits,
    serial: AtomicU64,
}

/// A file whose bytes are ours.
#[derive(Debug)]
pub struct Staged {
    /// Where it came from.
    pub source: PathBuf,
    /// The source's owner, permissions and times, from the descriptor that was
    /// read: they belong to these bytes.
    pub metadata: Metadata,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many there are.
    pub size_bytes: u64,
    /// The copy.
    pub copy: PrivateCopy,
}

/// A private copy on disk; deleted when the last clone is dropped.
///
/// It must outlive the mapping of the library: a struct that holds both names
/// the library first, because fields are dropped in that order.
#[derive(Debug, Clone)]
pub struct PrivateCopy(Arc<OnDisk>);

/// A file that is deleted when this is dropped.
#[derive(Debug)]
struct OnDisk {
    path: PathBuf,
}

impl PrivateCopy {
    /// Where it is: `<sha256>-<serial>.so`, mode 0400, under a name that no
    /// other copy of this process ever has.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its bytes, straight from the page cache: a plugin of 100 MiB is
    /// inspected without 100 MiB of heap.
    ///
    /// # Errors
    /// `stage.store` if it cannot be opened or mapped.
    pub(crate) fn map(&self) -> Result<Mmap, StageError> {
        let unreadable = |source| StageError::Map { path: self.path().to_owned(), source };
        let file = File::open(self.path()).map_err(unreadable)?;
        // SAFETY: nobody changes or truncates the file while it is mapped: it
        // was written by this process under a name that was never used before,
        // is closed to writing (0400) in a directory closed to others (0700),
        // and the one caller drops the mapping before it patches the copy. The
        // dynamic loader maps the same file on the same grounds.
        unsafe { Mmap::map(&file) }.map_err(unreadable)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start removes it.
            tracing::warn!(path = %self.path.display(), %error, "a private copy stays behind");
        }
    }
}

impl Stager {
    /// Uses `directory` for the copies: makes it, closes it to others (0700),
    /// and removes what an earlier process left in it.
    ///
    /// The caller holds the lock of the data directory: the copies of another
    /// process that lives would be removed too.
    ///
    /// # Errors
    /// `stage.store` if the directory cannot be made or written,
    /// `load.executable_store` if nothing in it may be executed.
    pub fn new(directory: impl Into<PathBuf>, limits: StageLimits) -> Result<Stager, StageError> {
        let directory = directory.into();
        let prepared = prepare(&directory).and_then(|()| fs::canonicalize(&directory));
        // The kernel lists mappings by this path, whatever way led here: what
        // is looked up by another is never found.
        let directory = prepared.map_err(|source| StageError::Store { path: directory, source })?;
        let probed = probe(&directory);
        if !probed.map_err(|source| StageError::Store { path: directory.clone(), source })? {
            return Err(StageError::NotExecutable { path: directory });
        }
        // Counting on from the clock, no name comes twice in a process, even if
        // it makes several stagers: dlopen would return the library that it
        // already has under that name.
        let serial = AtomicU64::new(monotonic_ns());
        Ok(Stager { directory, limits, serial })
    }

    /// Copies the file at `path`, which is not followed if it is a link.
    ///
    /// # Errors
    /// `stage.not_regular`, `stage.empty`, `stage.too_large`,
    /// `stage.unreadable` and `stage.gone` speak of the file; `stage.changing`
    /// says that somebody wrote to it during the copy, so that it should be
    /// tried again; `stage.store` speaks of the private directory. After an
    /// error nothing is left behind.
    pub fn stage(&self, path: &Path) -> Result<Staged, StageError> {
        let (mut source, metadata) = self.open(path)?;
        let mut part = self.begin()?;
        let digest = self.copy(path, &mut source, &metadata, &mut part)?;
        let copy = self.commit(part, digest)?;
        Ok(Staged { source: path.into(), digest, size_bytes: metadata.len(), metadata, copy })
    }

    fn open(&self, path: &Path) -> Result<(File, Metadata), StageError> {
        let refuse = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StageError::Gone { path: path.into() },
            // A link or a socket that was put there since the first look.
            _ if source.raw_os_error() == Some(libc::ELOOP) => {
                StageError::NotRegular { path: path.into(), found: FileKind::Symlink }
            }
            _ if source.raw_os_error() == Some(libc::ENXIO) => {
                StageError::NotRegular { path: path.into(), found: FileKind::Socket }
            }
            _ => StageError::Unreadable { path: path.into(), source },
        };
        // Before it is opened, since opening a device can already do something.
        self.check(path, &fs::symlink_metadata(path).map_err(refuse)?)?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(refuse)?;
        // And what was opened, since it may be another by now.
        let metadata = file.metadata().map_err(refuse)?;
        self.check(path, &metadata)?;
        Ok((file, metadata))
    }

    fn check(&self, path: &Path, metadata: &Metadata) -> Result<(), StageError> {
        let path = || path.to_path_buf();
        if let Some(found) = FileKind::unless_regular(metadata.file_type()) {
            return Err(StageError::NotRegular { path: path(), found });
        }
        match metadata.len() {
            0 => Err(StageError::Empty { path: path() }),
            size_bytes if size_bytes > self.limits.max_bytes => {
                Err(StageError::TooLarge { path: path(), size_bytes, max_bytes: self.limits.max_bytes })
            }
            _ => Ok(()),
        }
    }

    fn begin(&self) -> Result<Part, StageError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{serial}{TEMPORARY_SUFFIX}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path) {
            Ok(file) => Ok(Part { file, on_disk: OnDisk { path }, serial }),
            Err(source) => Err(StageError::Store { path, source }),
        }
    }

    /// Copies and hashes exactly the bytes that `before` promises.
    fn copy(
        &self,
        path: &Path,
        source: &mut File,
        before: &Metadata,
        part: &mut Part,
    ) -> Result<Digest, StageError> {
        let unreadable = |source| StageError::Unreadable { path: path.into(), source };
        let changing = |found_bytes| StageError::Changing {
            path: path.into(),
            expected_bytes: before.len(),
            found_bytes,
        };
        let mut hasher = sha2::Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES.min(before.len() as usize)];
        let mut left = before.len();
        while left > 0 {
            let wanted = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            let bytes = match source.read(&mut chunk[..wanted]) {
                Ok(0) => return Err(changing(before.len() - left)),
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            hasher.update(bytes);
            part.file
                .write_all(bytes)
                .map_err(|source| StageError::Store { path: part.on_disk.path.clone(), source })?;
            left -= bytes.len() as u64;
        }
        let after = source.metadata().map_err(unreadable)?;
        if state_of(&after) != state_of(before) {
            return Err(changing(after.len()));
        }
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }

    /// Gives a finished copy its name.
    fn commit(&self, mut part: Part, digest: Digest) -> Result<PrivateCopy, StageError> {
        let path = self.directory.join(format!("{digest}-{}.so", part.serial));
        match fs::rename(&part.on_disk.path, &path) {
            Ok(()) => {
                part.on_disk.path = path;
                Ok(PrivateCopy(Arc::new(part.on_disk)))
            }
            Err(source) => Err(StageError::Store { path, source }),
        }
    }
}

/// A copy under way; removed when dropped.
struct Part {
    file: File,
    on_disk: OnDisk,
    serial: u64,
}

/// Size, and times of content and of metadata in seconds and nanoseconds.
///
/// A write changes at least one, but for one of the same size within the same
/// tick of the kernel's clock (1 to 10 ms) as the write before. The watch
/// knows: it tells again of a file that was so young when it told of it and is
/// written to. To refuse young files here would only hold every drop up.
fn state_of(metadata: &Metadata) -> (u64, [i64; 4]) {
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    (metadata.len(), times)
}

fn prepare(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // It may have been there with other permissions.
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_ours(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether what is written into the directory may be executed.
fn probe(directory: &Path) -> io::Result<bool> {
    let probe = OnDisk { path: directory.join(format!("0{TEMPORARY_SUFFIX}")) };
    fs::write(&probe.path, "probe")?;
    may_be_code(&probe.path)
}

/// Whether the system maps a file as code. It does not where the file system is mounted
/// noexec, and the loader does not say that it is for this.
///
/// # Errors
/// It cannot be opened, or not mapped for another reason.
pub(crate) fn may_be_code(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    // SAFETY: nothing is read through the mapping, or executed, and it is gone at once.
    match unsafe { MmapOptions::new().len(1).map_exec(&file) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a name is one that [`Stager`] gives. Nothing else is ever removed.
fn is_ours(name: &OsStr) -> bool {
    let is_serial = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some(name) = name.to_str() else {
        return false;
    };
    if let Some(serial) = name.strip_suffix(TEMPORARY_SUFFIX) {
        return is_serial(serial);
    }
    let parts = name.strip_suffix(".so").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(digest, serial)| digest.parse::<Digest>().is_ok() && is_serial(serial))
}

#[cfg(test)]
mod tests;
