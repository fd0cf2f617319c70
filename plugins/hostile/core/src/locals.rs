//! What ordinary code keeps on the threads that it runs on.

use crate::Hang;
use replug_plugin_api::Result;
use std::{cell::RefCell, fs::OpenOptions, io::Write, path::Path, thread};

/// Owns heap, so that it has a destructor, after which it cannot be used.
struct Marks(Vec<String>);

impl Drop for Marks {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Waits when it is dropped.
struct Hangs(Hang);

impl Drop for Hangs {
    fn drop(&mut self) {
        self.0.wait();
    }
}

thread_local! {
    static MARKS: RefCell<Marks> = const { RefCell::new(Marks(Vec::new())) };
    static HANGS: RefCell<Option<Hangs>> = const { RefCell::new(None) };
}

/// Uses a thread-local and the current thread's handle, which panics once
/// their destructors ran on this thread, and then adds a line to a file: how
/// often this thread has been here.
pub(crate) fn touch(file: &Path) -> Result<()> {
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    let line = MARKS.with_borrow_mut(|marks| {
        marks.0.push(name);
        format!("{}\n", marks.0.len())
    });
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(line.as_bytes())?;
    Ok(())
}

/// Makes the destructors of this thread's thread-locals wait.
pub(crate) fn leave(hang: Hang) {
    HANGS.set(Some(Hangs(hang)));
}
