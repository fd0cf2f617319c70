//! One data directory, one host.

use super::error::HostError;
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Keeps other hosts out of a data directory. Shared by all that may still write
/// there: the last one to drop it unlocks it, or the system when the process ends.
#[derive(Debug)]
pub(super) struct DataLock {
    _file: File,
}

/// How long a lock is waited for that no living host has: a process that is begun has
/// all files of the one that begins it open for a moment, and with them its locks.
const PASSING: Duration = Duration::from_secs(1);

/// Locks the data directory.
pub(super) fn lock(data_dir: &Path) -> Result<Arc<DataLock>, HostError> {
    let unusable = |source| HostError::DataDirectory { path: data_dir.to_owned(), source };
    // Whatever the umask: nobody else may put anything into it.
    DirBuilder::new().recursive(true).mode(0o755).create(data_dir).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(data_dir.join("lock"))
        .map_err(unusable)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let pid = owner(&mut file).map_err(unusable)?;
                if begun.elapsed() >= PASSING || is_another(&pid) {
                    return Err(HostError::Locked { path: data_dir.to_owned(), pid });
                }
                // sleep: the system tells nobody when a lock ends that cannot be waited
                // for with a limit.
                thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(unusable)?;
    Ok(Arc::new(DataLock { _file: file }))
}

/// The process that locked last, as it wrote itself down.
fn owner(file: &mut File) -> io::Result<String> {
    let mut pid = String::new();
    file.rewind()?;
    file.read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}

/// Whether that is a process that lives, and not this one.
fn is_another(pid: &str) -> bool {
    pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// As if a process had been begun when a host here ended.
    fn locked_by(pid: &str, data_dir: &Path) -> File {
        let file = File::create(data_dir.join("lock")).expect("creates");
        fs::write(data_dir.join("lock"), pid).expect("writes");
        file.lock().expect("locks");
        file
    }

    #[test]
    fn a_lock_that_no_living_host_has_is_waited_for() {
        let own = std::process::id().to_string();
        // No process has the other number: the largest is 4,194,304.
        for pid in [own.as_str(), "9999999"] {
            let folder = tempfile::tempdir().expect("a directory");
            let file = locked_by(pid, folder.path());
            let unlocks = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20)); // sleep: the lock passes meanwhile
                drop(file);
            });
            lock(folder.path()).expect("is free soon");
            unlocks.join().expect("unlocks");
        }
    }

    #[test]
    fn the_lock_of_a_host_that_lives_is_refused_with_its_process() {
        let folder = tempfile::tempdir().expect("a directory");
        for pid in ["1", std::process::id().to_string().as_str()] {
            let _file = locked_by(pid, folder.path());
            match lock(folder.path()) {
                Err(HostError::Locked { pid: told, .. }) => assert_eq!(told, pid),
                other => panic!("{other:?}"),
            }
        }
    }
}
