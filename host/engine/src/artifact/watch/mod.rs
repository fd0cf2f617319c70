//! Turns a directory into reports: this file is complete, that one is gone.
//!
//! One [`Watcher`] and one thread for each directory. A file is taken as soon as
//! the kernel says that it is complete (closed by its writer, or moved into
//! place), without a debounce; what the kernel does not announce is looked at
//! until it settles (`settle.rs` has the rules). Events are never the only way:
//! a full scan at the start, after an overflow, after the directory came back,
//! and every 30 seconds finds what they missed, and where there are none it runs
//! every 500 ms instead.
//!
//! The watch never reads a file's content, never decides whether a file is any
//! good, and never tells of names other than `*.so`.
//!
//! ```no_run
//! use replug_host::artifact::watch::{Report, WatchOptions, Watcher};
//!
//! let watcher = Watcher::start("/var/lib/replug/plugins", WatchOptions::default())?;
//! for report in watcher.reports() {
//!     if let Report::Candidate(candidate) = report {
//!         println!("{} is complete", candidate.path.display());
//!     }
//! }
//! # Ok::<(), replug_host::artifact::watch::WatchError>(())
//! ```

mod look;
mod settle;
mod events;
mod feed;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};

use crate::failure::{Code, Failure};
use events::Signal;
use feed::Feed;
use settle::Hint;

/// The shortest interval that [`WatchOptions`] can ask for.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How a directory is watched.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Between two scans where the kernel gives no events. Default 500 ms.
    pub poll_interval: Duration,
    /// Between two scans beside events, as a safety net. Default 30 s.
    pub rescan_interval: Duration,
    /// Between two looks at the directory itself, which may have been replaced.
    /// Default 1 s.
    pub check_interval: Duration,
    /// Poll even where there are events. Default false.
    pub force_polling: bool,
    /// Events that wait for the watch's thread; more lead to a full scan.
    /// Default 4,096.
    pub event_queue: usize,
    /// Reports that wait for the reader. More are not lost: they stay with
    /// their file, the latest for each. Default 1,024.
    pub report_queue: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions {
            poll_interval: Duration::from_millis(500),
            rescan_interval: Duration::from_secs(30),
            check_interval: Duration::from_secs(1),
            force_polling: false,
            event_queue: 4096,
            report_queue: 1024,
        }
    }
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A file is complete and has not been told of with this content.
    Candidate(Candidate),
    /// A file that was told of has been removed or moved away.
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A file is not taken, because a writer has it open without changing it.
    Held {
        /// The file.
        path: PathBuf,
        /// How long it has not changed.
        unchanged_for: Duration,
    },
    /// The whole directory was compared with what had been told; candidates that
    /// this finds follow.
    Rescanned {
        /// Why.
        cause: RescanCause,
        /// Plugin files found.
        files: usize,
    },
    /// There are more files than are watched; the rest is not taken.
    TooManyFiles {
        /// How many are.
        limit: usize,
    },
    /// The way of watching has changed.
    Mode(WatchMode),
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file, in the watched directory.
    pub path: PathBuf,
    /// Its size when it was looked at.
    pub size_bytes: u64,
    /// When the kernel said that it is complete, or when it was first seen:
    /// `CLOCK_MONOTONIC`, as [`SystemClock`](crate::clock::SystemClock) has it.
    pub noticed: Duration,
}

/// Why a directory was scanned out of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescanCause {
    /// The watch began.
    Start,
    /// Events were lost, in the kernel's queue or in ours.
    Overflow,
    /// The directory came back, was replaced, or events became available.
    Rearmed,
}

/// How changes are noticed at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMode {
    /// The kernel tells.
    Events,
    /// By scanning, because there are no events to be had.
    Polling {
        /// Why there are none.
        reason: String,
        /// Between two scans.
        interval: Duration,
    },
    /// Not at all: the directory is away. It is looked for all the time.
    Absent {
        /// What the system says.
        reason: String,
    },
}

impl fmt::Display for WatchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchMode::Events => f.write_str("events"),
            WatchMode::Polling { reason, interval } => {
                write!(f, "polling every {} ms: {reason}", interval.as_millis())
            }
            WatchMode::Absent { reason } => write!(f, "absent: {reason}"),
        }
    }
}

/// A watched directory. Stops, and joins its thread, when dropped.
#[derive(Debug)]
pub struct Watcher {
    directory: PathBuf,
    reports: Receiver<Report>,
    signals: Sender<Signal>,
    mode: Arc<Mutex<WatchMode>>,
    /// Dropped to stop the thread; both are there until then.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watcher {
    /// Starts to watch `directory`, which is made if it is not there. Every file
    /// that is in it already is reported too.
    ///
    /// # Errors
    /// `watch.directory` if it cannot be made or read, or is no directory;
    /// `host.thread` if the system gives no thread. That there are no events is
    /// not an error: see [`Watcher::mode`].
    pub fn start(directory: impl AsRef<Path>, options: WatchOptions) -> Result<Watcher, WatchError> {
        let directory = directory.as_ref();
        let unusable = |source| WatchError::Directory { path: directory.into(), source };
        let directory = std::path::absolute(directory).map_err(unusable)?;
        fs::create_dir_all(&directory).map_err(unusable)?;
        fs::read_dir(&directory).map_err(unusable)?;

        let (report_sender, reports) = channel::bounded(options.report_queue.max(1));
        let (signals, signal_receiver) = channel::bounded(options.event_queue.max(1));
        let (stop, stop_receiver) = channel::bounded(0);
        let feed = Feed::new(directory.clone(), options, signals.clone(), report_sender);
        let mode = feed.mode();
        let thread = thread::Builder::new()
            .name("replug-watch".into())
            .spawn(move || feed.run(&signal_receiver, &stop_receiver))
            .map_err(|source| WatchError::Thread { path: directory.clone(), source })?;
        Ok(Watcher { directory, reports, signals, mode, running: Some((stop, thread)) })
    }

    /// The reports. The channel closes when the watch stops.
    pub fn reports(&self) -> &Receiver<Report> {
        &self.reports
    }

    /// The watched directory, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How changes are noticed at present.
    pub fn mode(&self) -> WatchMode {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that reads the mode, for whoever does not own the watch.
    pub fn mode_reader(&self) -> Arc<dyn Fn() -> WatchMode + Send + Sync> {
        let mode = Arc::clone(&self.mode);
        Arc::new(move || mode.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Has a file reported once more when it is stable, although it has not
    /// changed: for a reader that found it changing under its hands. Waits a
    /// moment if many events are queued.
    pub fn report_again(&self, path: &Path) {
        if let Some(name) = path.file_name() {
            // It fails only when the watch has stopped.
            let _ = self.signals.send(Signal::hint(name, Hint::Again));
        }
    }

    /// Stops the watch and waits for its thread, which takes milliseconds.
    /// Reports that are still queued can be read afterwards from a clone of
    /// [`Watcher::reports`].
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic there has been printed; here it changes nothing.
            let _ = thread.join();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// It cannot be made or read, or is no directory.
    #[error("plugin directory {} cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread to watch the plugin directory {}", path.display())]
    Thread {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Failure for WatchError {
    fn code(&self) -> Code {
        match self {
            WatchError::Directory { .. } => Code::WatchDirectory,
            WatchError::Thread { .. } => Code::HostThread,
        }
    }
}

#[cfg(test)]
mod tests;
