//! Waiting: for ever, for a time, for a file, until released.
//!
//! A test that makes something hang can always end it, so that it leaves no
//! thread behind.

use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long to wait: until the first of both, or until the method
/// `release` is called; with
/// neither, for ever. As JSON: `{"ms": 100, "until_file": "/tmp/go"}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hang {
    /// Milliseconds.
    pub ms: Option<u64>,
    /// Ends when this file exists.
    pub until_file: Option<PathBuf>,
}

/// How often `until_file` is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How often everything was released; all that hangs waits for a change.
static RELEASES: Mutex<u64> = Mutex::new(0);
static RELEASED: Condvar = Condvar::new();

/// Ends everything that hangs in this library now.
pub(crate) fn release() {
    *releases() += 1;
    RELEASED.notify_all();
}

impl Hang {
    /// Waits, and leaves the processor to others.
    pub fn wait(&self) {
        let began = Instant::now();
        let mut releases = releases();
        let at_first = *releases;
        while *releases == at_first && !self.is_over(began) {
            releases = RELEASED.wait_timeout(releases, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits, and does not.
    pub fn spin(&self) {
        let began = Instant::now();
        let at_first = *releases();
        while *releases() == at_first && !self.is_over(began) {
            std::hint::spin_loop();
        }
    }

    fn is_over(&self, began: Instant) -> bool {
        let late = |ms| began.elapsed() >= Duration::from_millis(ms);
        self.ms.is_some_and(late) || self.until_file.as_ref().is_some_and(|file| file.exists())
    }
}

fn releases() -> MutexGuard<'static, u64> {
    RELEASES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_hang_ends_by_time_by_file_and_by_release() {
        let hang = |ms, until_file| Hang { ms, until_file };
        hang(Some(1), None).wait();
        hang(Some(1), None).spin();
        let exists = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        hang(None, exists.clone()).wait();
        hang(None, exists).spin();

        let hanging = thread::spawn(|| Hang::default().wait());
        while !hanging.is_finished() {
            release();
            thread::yield_now();
        }
        hanging.join().expect("no panic");
    }
}
