//! The proof of unload, and what can be said when it fails.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsStr},
    fmt, fs,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What keeps a version in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Threads of the plugin still run, by name.
    Threads(Vec<String>),
    /// Threads that a constructor of the plugin started, before the host could
    /// count them.
    UnmanagedThreads(u64),
    /// A thread of the host is running a waker of the plugin right now.
    Wakers,
    /// A signal handler of the plugin is installed.
    SignalHandler(i32),
    /// A hook did not return, so that its code still runs.
    HookRuns(&'static str),
    /// Its tables are being changed, and their disk does not go on.
    Tables,
    /// A thread has begun with the destructors of the plugin's thread-locals and
    /// not ended.
    Destructors,
    /// `dlclose` failed, in the loader's words.
    Loader(String),
    /// The loader kept the library after `dlclose`: somebody else has it open,
    /// a unique symbol binds it, or a thread-local destructor was registered
    /// past the ledger. With the shared libraries that came with it and are
    /// still mapped: one of them may be who did.
    KeptByLoader(Vec<PathBuf>),
    /// The file is mapped although the loader let go.
    Mapped(PathBuf),
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pin::Threads(names) => write!(f, "{} threads still run: {}", names.len(), names.join(", ")),
            Pin::UnmanagedThreads(count) => write!(f, "{count} threads were started by a constructor"),
            Pin::Wakers => f.write_str("a thread of the host is in one of its wakers"),
            Pin::SignalHandler(signal) => write!(f, "it handles signal {signal}"),
            Pin::HookRuns(hook) => write!(f, "its hook {hook} has not returned"),
            Pin::Tables => f.write_str("its tables wait for their disk"),
            Pin::Destructors => {
                f.write_str("a thread has not come to the end of its thread-local destructors")
            }
            Pin::Loader(words) => write!(f, "dlclose failed: {words}"),
            Pin::KeptByLoader(companions) => {
                f.write_str("the loader keeps it: a unique symbol, another dlopen, or a thread-local destructor of a linked library")?;
                for (index, companion) in companions.iter().enumerate() {
                    let before = if index == 0 { "; it came with" } else { "," };
                    write!(f, "{before} {}", companion.display())?;
                }
                Ok(())
            }
            Pin::Mapped(path) => write!(f, "{} is still mapped", path.display()),
        }
    }
}

/// What a version left behind although it is unmapped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residue {
    /// Heap blocks that nobody had freed, now freed.
    pub blocks_freed: usize,
    /// Bytes that the plugin had asked for in those blocks.
    pub bytes_freed: u64,
    /// Shared libraries that came with the plugin and stayed.
    pub companions: Vec<PathBuf>,
}

/// Why a library is not gone, or nothing when it is. `companions` came with it.
/// Asks the loader, so the caller holds its lock.
pub(super) fn still_mapped(path: &Path, companions: &[PathBuf]) -> Vec<Pin> {
    let (mut pins, mapped) = (Vec::new(), mapped_files());
    if known_to_loader(path) {
        let companions = companions.iter().filter(|file| mapped.contains(*file)).cloned().collect();
        pins.push(Pin::KeptByLoader(companions));
    }
    if mapped.contains(path) {
        pins.push(Pin::Mapped(path.to_owned()));
    }
    pins
}

/// Whether the loader still has the library; never loads it.
fn known_to_loader(path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: NOLOAD only asks; the reference that it may give is returned.
    unsafe {
        let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if handle.is_null() {
            // Clears the message, which would be read as another call's.
            libc::dlerror();
            return false;
        }
        libc::dlclose(handle);
        true
    }
}

/// The files with an executable mapping in this process. Empty without `/proc`.
pub(super) fn mapped_files() -> BTreeSet<PathBuf> {
    mappings().filter(|mapping| mapping.executable).map(|mapping| mapping.file).collect()
}

/// Signals whose handler stands in `range`.
pub(super) fn signal_handlers(range: &Range<usize>) -> Vec<i32> {
    (1..=libc::SIGRTMAX())
        .filter(|&signal| {
            // SAFETY: a null new action only reads the old one; signals that
            // cannot be asked for give an error, which is skipped.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                    && range.contains(&action.sa_sigaction)
            }
        })
        .collect()
}

struct Mapping {
    executable: bool,
    file: PathBuf,
}

fn mappings() -> impl Iterator<Item = Mapping> {
    // Bytes, not text: a path need not be UTF-8.
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    let lines: Vec<Vec<u8>> = maps.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.into_iter().filter_map(|line| parse_mapping(&line))
}

/// `7f00-7f01 r-xp 00000000 fe:00 123    /path/with spaces.so`
fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    let slash = line.iter().position(|&byte| byte == b'/')?;
    let head = std::str::from_utf8(&line[..slash]).ok()?;
    let allowed = head.split_ascii_whitespace().nth(1)?;
    let file = PathBuf::from(OsStr::from_bytes(&line[slash..]));
    Some(Mapping { executable: allowed.contains('x'), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let mapping =
            parse_mapping(b"7f0000-7f2000 r-xp 00001000 fe:00 1234   /tmp/a dir/x.so").expect("parses");
        assert!(mapping.executable);
        assert_eq!(mapping.file, Path::new("/tmp/a dir/x.so"));
        assert!(parse_mapping(b"7f0000-7f2000 rw-p 00000000 00:00 0 [heap]").is_none());
        assert!(parse_mapping(b"").is_none());
    }

    #[test]
    fn the_running_program_is_mapped() {
        let program = std::env::current_exe().expect("own path");
        assert!(mapped_files().contains(&program));
    }
}
