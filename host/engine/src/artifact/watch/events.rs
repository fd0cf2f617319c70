//! The kernel's events, by way of the crate `notify`, as hints.
//!
//! Owns the inotify watch and its bounded queue. The handler runs on notify's
//! thread, so it never blocks: what does not fit is replaced by a flag that asks
//! for a full scan.

use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::look::{is_plugin_name, remote_file_system};
use super::settle::Hint;
use crate::clock::{Clock, SystemClock};

/// What reaches the watch's thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// A file should be looked at.
    Hint { name: OsString, hint: Hint, at: Duration },
    /// Events were lost.
    Overflow,
    /// The directory that this arming watches was removed or moved away.
    DirectoryLost { arming: u64 },
}

impl Signal {
    pub(super) fn hint(name: &OsStr, hint: Hint) -> Signal {
        Signal::Hint { name: name.into(), hint, at: SystemClock.now() }
    }
}

/// Where the handler puts its signals.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    pub(super) signals: Sender<Signal>,
    /// Set when a signal did not fit; the reader takes it after each drain.
    pub(super) has_overflowed: Arc<AtomicBool>,
}

impl Sink {
    pub(super) fn new(signals: Sender<Signal>) -> Sink {
        Sink { signals, has_overflowed: Arc::default() }
    }

    fn put(&self, signal: Signal) {
        if self.signals.try_send(signal).is_err() {
            // Release pairs with the Acquire of the reader's swap.
            self.has_overflowed.store(true, Ordering::Release);
            // Wakes the reader if it has drained the queue in between. If this
            // does not fit either, the reader has still to come past the flag.
            let _ = self.signals.try_send(Signal::Overflow);
        }
    }
}

/// An armed inotify watch. Dropping it disarms.
#[derive(Debug)]
pub(super) struct Events {
    watcher: ManuallyDrop<RecommendedWatcher>,
}

impl Events {
    /// Arms a watch on `directory`; `Err` says why there are no events.
    pub(super) fn arm(directory: &Path, arming: u64, sink: Sink) -> Result<Events, String> {
        if let Some(name) = remote_file_system(directory) {
            return Err(format!("a {name} file system does not tell of every change"));
        }
        let root = directory.to_path_buf();
        let watcher =
            RecommendedWatcher::new(move |event| translate(&root, arming, event, &sink), Config::default());
        let watcher = watcher.map_err(|error| explain(&error))?;
        let mut events = Events { watcher: ManuallyDrop::new(watcher) };
        if !events.is_served() {
            return Err("no thread for the events".into());
        }
        let watched = events.watcher.watch(directory, RecursiveMode::NonRecursive);
        watched.map_err(|error| explain(&error))?;
        Ok(events)
    }

    /// Whether notify's thread lives. Its other calls panic if it does not (it
    /// ignores that the thread could not be started); this one reports it.
    fn is_served(&mut self) -> bool {
        self.watcher.configure(Config::default()).is_ok()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.is_served() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.watcher) };
        }
        // Otherwise its drop would panic; what leaks is one file descriptor.
    }
}

/// Puts what an event means into the sink.
fn translate(root: &Path, arming: u64, event: notify::Result<notify::Event>, sink: &Sink) {
    let Ok(event) = event else {
        // The queue could not be read: whatever was in it is lost.
        return sink.put(Signal::Overflow);
    };
    if event.need_rescan() {
        return sink.put(Signal::Overflow);
    }
    let Some(hint) = hint_of(&event.kind) else {
        return;
    };
    for path in &event.paths {
        if path == root {
            if hint == Hint::Removed {
                sink.put(Signal::DirectoryLost { arming });
            }
        } else if let Some(name) = path.file_name().filter(|name| is_plugin_name(name)) {
            sink.put(Signal::hint(name, hint));
        }
    }
}

fn hint_of(kind: &EventKind) -> Option<Hint> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Hint::Complete),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Hint::Complete),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Hint::Removed),
        // Follows a From and a To that have said it.
        EventKind::Modify(ModifyKind::Name(_)) => None,
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Hint::Attributes),
        EventKind::Modify(_) => Some(Hint::Modified),
        EventKind::Create(_) => Some(Hint::Appeared),
        EventKind::Remove(_) => Some(Hint::Removed),
        // Reading changes nothing; our own looks are among these.
        EventKind::Access(_) | EventKind::Any | EventKind::Other => None,
    }
}

/// One line with the limit to raise.
fn explain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached (fs.inotify.max_user_watches)".into()
        }
        notify::ErrorKind::Io(io) if io.raw_os_error() == Some(libc::EMFILE) => {
            "no file descriptor or inotify instance is left \
             (fs.inotify.max_user_instances, ulimit -n)"
                .into()
        }
        notify::ErrorKind::Io(io) => format!("inotify is not available: {io}"),
        _ => format!("inotify is not available: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use crossbeam::channel::bounded;
    use notify::event::Flag;

    fn path(name: &str) -> PathBuf {
        Path::new("/plugins").join(name)
    }

    #[test]
    fn an_overflow_of_the_kernel_s_queue_asks_for_a_scan() {
        let (sender, signals) = bounded(4);
        let lost = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        translate(&path(""), 1, Ok(lost), &Sink::new(sender));
        assert_eq!(signals.try_recv(), Ok(Signal::Overflow));
    }

    #[test]
    fn what_does_not_fit_the_queue_raises_the_flag() {
        let (sender, signals) = bounded(1);
        let sink = Sink::new(sender);
        sink.put(Signal::hint(OsStr::new("a.so"), Hint::Complete));
        assert!(!sink.has_overflowed.load(Ordering::Acquire));
        sink.put(Signal::hint(OsStr::new("b.so"), Hint::Complete));
        assert!(sink.has_overflowed.load(Ordering::Acquire));
        assert_eq!(signals.len(), 1);
    }

    #[test]
    fn the_directory_s_own_end_is_told_apart_from_a_file_s() {
        let (sender, signals) = bounded(4);
        let sink = Sink::new(sender);
        let removed = EventKind::Remove(notify::event::RemoveKind::Folder);
        let of = |path| Ok(notify::Event::new(removed).add_path(path));
        translate(&path(""), 7, of(PathBuf::from("/plugins")), &sink);
        translate(&path(""), 7, of(path("a.so")), &sink);
        translate(&path(""), 7, of(path("a.txt")), &sink);
        assert_eq!(signals.try_recv(), Ok(Signal::DirectoryLost { arming: 7 }));
        let second = signals.try_recv();
        assert!(
            matches!(&second, Ok(Signal::Hint { name, hint: Hint::Removed, .. }) if name == "a.so"),
            "{second:?}"
        );
        assert!(signals.is_empty());
    }
}
