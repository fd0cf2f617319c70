//! What can go wrong, in a hook, a migration or a call alike.

use crate::{Crash, Hang, linger, locals, reach};
use replug_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Write as _},
    panic::panic_any,
    path::{Path, PathBuf},
};

/// One thing that goes wrong.
///
/// As JSON: `{"panic": "text"}`, `{"fail": "why"}`, `{"hang": {"ms": 5}}`,
/// `{"crash": "segv"}`, `{"grow": 1048576}`, `"rayon_global"`, ….
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Panics.
    Panic(Payload),
    /// Answers with the error `hostile.failed` and this message.
    Fail(String),
    /// Waits.
    Hang(Hang),
    /// As `hang`, in a loop that never sleeps.
    Spin(Hang),
    /// Ends the process.
    Crash(Crash),
    /// Allocates so many bytes, writes to them, and forgets them.
    Grow(usize),
    /// The same with memory that other processes could share.
    GrowShared(usize),
    /// Starts a thread that the host is not told of, which waits, and goes on.
    Linger(Hang),
    /// Starts rayon's global pool, whose threads never end, and goes on.
    RayonGlobal,
    /// Registers a thread-local destructor with the C library behind the
    /// ledger's back, and goes on: the library stays until this thread ends.
    Pin,
    /// Opens a file, forgets it, and goes on.
    LeakFile,
    /// Ends the process, from a thread of its own.
    CrashOnThread(Crash),
    /// Closes what the process has open, and goes on.
    CloseDescriptors,
    /// Starts so many threads that wait, and goes on.
    Threads(usize),
    /// Writes a file, and goes on.
    Write(PathBuf),
    /// Listens on the network, and goes on.
    Listen,
    /// Starts another program, and goes on.
    Execute,
    /// Starts a process of its own, and goes on.
    Fork,
    /// Opens as many files as it may, and goes on.
    UseUpDescriptors,
    /// Leaves a handler of a signal, and goes on.
    HandleSignal,
    /// No fault: uses thread-locals, as ordinary code does, adds a line to this
    /// file if they are still alive, and goes on.
    Locals(PathBuf),
    /// Leaves a thread-local on this thread whose destructor waits, and goes on.
    LocalHangs(Hang),
    /// Another one, but not the first time: as what was tried and went well.
    Later {
        /// Gets a byte each time.
        file: PathBuf,
        /// What happens the other times.
        fault: Box<Fault>,
    },
}

/// What a panic carries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The text `hostile panic`.
    Text,
    /// A number.
    Value,
    /// A value that panics once more when it is dropped.
    Bomb,
}

impl Fault {
    /// Lets it happen.
    ///
    /// # Errors
    /// [`Fault::Fail`], and what the system refuses.
    pub fn happen(&self) -> Result<()> {
        match self {
            Fault::Panic(payload) => payload.panic(),
            Fault::Fail(message) => return Err(Error::new("hostile.failed", message.clone())),
            Fault::Hang(hang) => hang.wait(),
            Fault::Spin(hang) => hang.spin(),
            Fault::Crash(crash) => crash.now(),
            Fault::Grow(bytes) => std::mem::forget(std::hint::black_box(vec![1_u8; *bytes])),
            Fault::GrowShared(bytes) => reach::grow_shared(*bytes)?,
            Fault::Linger(hang) => linger::thread(hang.clone())?,
            Fault::RayonGlobal => linger::rayon_global(),
            Fault::Pin => linger::pin()?,
            Fault::Locals(file) => locals::touch(file)?,
            Fault::LocalHangs(hang) => locals::leave(hang.clone()),
            Fault::LeakFile => std::mem::forget(File::open("/dev/null")?),
            Fault::CrashOnThread(crash) => reach::crash_on_thread(*crash)?,
            Fault::CloseDescriptors => reach::close_descriptors(),
            Fault::Threads(count) => reach::threads(*count)?,
            Fault::Write(path) => reach::write(path)?,
            Fault::Listen => reach::listen()?,
            Fault::Execute => reach::execute()?,
            Fault::Fork => reach::fork()?,
            Fault::UseUpDescriptors => reach::use_up_descriptors(),
            Fault::HandleSignal => reach::handle_signal()?,
            Fault::Later { file, fault } if !is_first(file)? => fault.happen()?,
            Fault::Later { .. } => {}
        }
        Ok(())
    }
}

/// Whether it is the first time that this is asked about a file, which gets a byte
/// each time.
pub(crate) fn is_first(file: &Path) -> io::Result<bool> {
    let mut file = File::options().create(true).append(true).open(file)?;
    file.write_all(b".")?;
    Ok(file.metadata()?.len() == 1)
}

impl Payload {
    fn panic(self) -> ! {
        match self {
            Payload::Text => panic!("hostile panic"),
            Payload::Value => panic_any(7_u32),
            Payload::Bomb => panic_any(Bomb),
        }
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("hostile panic in the drop of a panic's payload");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replug_plugin_api::serde_json;
    use std::panic::catch_unwind;

    #[test]
    fn faults_are_written_as_documented() {
        let read = |json| serde_json::from_str::<Fault>(json).expect(json);
        assert_eq!(read(r#"{"panic": "bomb"}"#), Fault::Panic(Payload::Bomb));
        assert_eq!(read(r#"{"crash": "segv"}"#), Fault::Crash(Crash::Segv));
        assert_eq!(read(r#"{"hang": {}}"#), Fault::Hang(Hang::default()));
        assert_eq!(read(r#""rayon_global""#), Fault::RayonGlobal);
        assert!(serde_json::from_str::<Fault>(r#"{"hang": {"s": 5}}"#).is_err());
    }

    #[test]
    fn payloads_are_what_they_say() {
        let payload = |payload: Payload| catch_unwind(move || payload.panic()).expect_err("panics");
        assert!(payload(Payload::Text).is::<&str>());
        assert!(payload(Payload::Value).is::<u32>());
        let bomb = payload(Payload::Bomb);
        assert!(catch_unwind(std::panic::AssertUnwindSafe(|| drop(bomb))).is_err());
    }
}
