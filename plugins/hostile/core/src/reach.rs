//! Reaching for what is not the plugin's.

use crate::{Crash, Hang};
use replug_plugin_api::{Error, Result};
use std::{
    fs::File,
    io::{self, Write as _},
    net::TcpListener,
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    process::Command,
    thread,
};

/// The highest descriptor that is closed; more than a test's host has open.
const DESCRIPTORS: i32 = 1024;

/// Ends the process from a thread that nobody knows of, and waits for that.
pub(crate) fn crash_on_thread(crash: Crash) -> Result<()> {
    let thread = thread::Builder::new().name("hostile-crash".to_owned()).spawn(move || crash.now())?;
    thread.join().map_err(|_| Error::new("hostile.crash", "the thread panicked"))
}

/// Closes whatever the process has open but its standard streams.
pub(crate) fn close_descriptors() {
    for descriptor in 3..DESCRIPTORS {
        // SAFETY: none. It belongs to somebody else, which is the fault on show.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

/// Starts so many threads, all of which wait.
pub(crate) fn threads(count: usize) -> Result<()> {
    for _ in 0..count {
        thread::Builder::new().stack_size(64 * 1024).spawn(|| Hang::default().wait())?;
    }
    Ok(())
}

/// Leaves a file where it does not belong.
pub(crate) fn write(path: &Path) -> Result<()> {
    let refused = |error: io::Error| Error::new("hostile.write", format!("{}: {error}", path.display()));
    File::create(path).and_then(|mut file| file.write_all(b"hostile")).map_err(refused)
}

/// Listens on the network.
pub(crate) fn listen() -> Result<()> {
    let refused = |error: io::Error| Error::new("hostile.listen", format!("a socket: {error}"));
    TcpListener::bind("127.0.0.1:0").map(std::mem::forget).map_err(refused)
}

/// Starts another program.
pub(crate) fn execute() -> Result<()> {
    let refused = |error: io::Error| Error::new("hostile.execute", format!("another program: {error}"));
    Command::new("true").status().map(drop).map_err(refused)
}

/// Writes to so many bytes of a mapping that the limits of data do not know of.
pub(crate) fn grow_shared(bytes: usize) -> Result<()> {
    let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping of its own, where the system finds room.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, shared, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: so long is the mapping, and nobody else knows of it.
    unsafe { std::ptr::write_bytes(start.cast::<u8>(), 1, bytes) };
    Ok(())
}

/// Starts a process that ends at once.
pub(crate) fn fork() -> Result<()> {
    // SAFETY: the child calls nothing but what ends it.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            Err(Error::new("hostile.fork", format!("a process: {error}")))
        }
        // SAFETY: ends the process.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

/// Opens files until there is no descriptor left for one more.
pub(crate) fn use_up_descriptors() {
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
}

/// Leaves a handler of a signal that is never sent.
pub(crate) fn handle_signal() -> Result<()> {
    // SAFETY: the handler has the right type and does nothing. That it may outlive its
    // library is the fault on show.
    let before = unsafe { libc::signal(libc::SIGUSR2, ignore as *const () as libc::sighandler_t) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

extern "C" fn ignore(_: libc::c_int) {}
