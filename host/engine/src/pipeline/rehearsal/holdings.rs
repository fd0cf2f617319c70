//! What the child holds: memory, threads, open files.
//!
//! It is read through files that are open before anything of the plugin runs, so that one
//! which has used up all descriptors is measured all the same.

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, readlinkat, seek};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, fs::FileExt},
    },
    path::PathBuf,
};

/// How the names of threads begin that are not the plugin's, but for the first one and the
/// one that runs hooks: the host's own, and those of the store of durable tables.
const OWN_THREADS: [&[u8]; 2] = [b"replug-", b"fjall:"];
/// The name of the latter, which those have too that the plugin starts and does not name.
pub(super) const HOOKS: &str = "replug-hooks";

/// By what the child measures itself.
pub(super) struct Gauge {
    status: File,
    threads: OwnedFd,
    files: OwnedFd,
    /// Threads that are not the plugin's, as far as they were seen.
    own_threads: RefCell<BTreeSet<String>>,
    /// What is open below this is not the plugin's: its tables are kept there.
    tables: PathBuf,
}

/// What the child holds at a moment, but for what is its own.
#[derive(Default)]
pub(super) struct Holdings {
    pub(super) memory_kib: u64,
    pub(super) threads: u64,
    /// The open files by number, with what each is.
    pub(super) files: BTreeMap<String, PathBuf>,
}

impl Gauge {
    pub(super) fn new(tables: PathBuf) -> io::Result<Gauge> {
        let folder = |path| open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Gauge {
            status: File::open("/proc/self/status")?,
            threads: folder("/proc/self/task")?,
            files: folder("/proc/self/fd")?,
            own_threads: RefCell::new(BTreeSet::from([std::process::id().to_string()])),
            tables,
        })
    }

    /// The thread that asks is none of the plugin's.
    pub(super) fn know_this_thread(&self) -> io::Result<()> {
        let thread = fs::read_link("/proc/thread-self")?;
        let number = thread.file_name().unwrap_or_default().to_string_lossy();
        self.own_threads.borrow_mut().insert(number.into_owned());
        Ok(())
    }

    pub(super) fn read(&self) -> io::Result<Holdings> {
        Ok(Holdings { memory_kib: self.memory_kib()?, threads: self.threads()?, files: self.files()? })
    }

    fn memory_kib(&self) -> io::Result<u64> {
        let mut bytes = [0; 8192];
        let length = self.status.read_at(&mut bytes, 0)?;
        let status = String::from_utf8_lossy(&bytes[..length]);
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0))
    }

    /// Those that the plugin has started, as far as names tell. A name that cannot be read,
    /// for want of a descriptor, is the plugin's if it was never seen.
    fn threads(&self) -> io::Result<u64> {
        let mut own = self.own_threads.borrow_mut();
        let mut is_own = |thread: &String| {
            let name = rustix::fs::openat(
                &self.threads,
                format!("{thread}/comm"),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let mut bytes = [0; 16];
            let length = name.and_then(|name| rustix::io::read(&name, &mut bytes)).unwrap_or(0);
            let name = bytes[..length].trim_ascii_end();
            let is_of_host = OWN_THREADS.iter().any(|begins| name.starts_with(begins));
            if is_of_host && name != HOOKS.as_bytes() {
                own.insert(thread.clone());
            }
            own.contains(thread)
        };
        let threads = names(&self.threads)?;
        Ok(threads.iter().map(|thread| u64::from(!is_own(thread))).sum())
    }

    fn files(&self) -> io::Result<BTreeMap<String, PathBuf>> {
        let named = names(&self.files)?.into_iter().filter_map(|number| {
            let what = readlinkat(&self.files, number.as_str(), Vec::new()).ok()?;
            let what = PathBuf::from(OsString::from_vec(what.into_bytes()));
            (!what.starts_with(&self.tables)).then_some((number, what))
        });
        Ok(named.collect())
    }
}

/// What is in a folder of the system, by name.
fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    seek(folder, SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Barrier, thread};

    #[test]
    fn files_and_threads_are_those_that_are_there() {
        let folder = tempfile::tempdir().expect("a directory");
        let gauge = Gauge::new(folder.path().join("tables")).expect("opens");
        let before = gauge.read().expect("reads");
        assert!(before.memory_kib > 0);
        let path = folder.path().join("a file");
        let file = File::create(&path).expect("creates");
        let open = |holdings: &Holdings| holdings.files.values().any(|what| *what == path);
        assert!(!open(&before) && open(&gauge.read().expect("reads")));
        drop(file);
        assert!(!open(&gauge.read().expect("reads")));

        // Other tests of this process start threads too, but none so many.
        const MANY: usize = 500;
        let (all_run, all_counted) = (Barrier::new(MANY + 1), Barrier::new(MANY + 1));
        let started = |name: &str| {
            thread::scope(|scope| {
                for _ in 0..MANY {
                    let thread = thread::Builder::new().name(name.to_owned());
                    let waits = || {
                        all_run.wait();
                        all_counted.wait();
                    };
                    thread.spawn_scoped(scope, waits).expect("starts");
                }
                all_run.wait();
                let threads = gauge.read().expect("reads").threads;
                all_counted.wait();
                threads
            })
        };
        let [plugins, unnamed, own] = ["a plugin's", HOOKS, "replug-own"].map(started);
        assert!(plugins >= MANY as u64 && unnamed >= MANY as u64 && own < MANY as u64);
    }

    #[test]
    fn what_tables_have_open_is_not_the_plugins() {
        let folder = tempfile::tempdir().expect("a directory");
        let gauge = Gauge::new(folder.path().to_owned()).expect("opens");
        let path = folder.path().join("journal");
        let _file = File::create(&path).expect("creates");
        assert!(!gauge.read().expect("reads").files.values().any(|what| *what == path));
    }
}
