//! The watch's thread: carries events, scans and looks to the decisions in
//! `settle.rs`, and reports to the reader. Decides nothing about files itself.
//!
//! It also keeps the watch armed. inotify watches an inode, not a path: when the
//! directory is removed, moved away or replaced, the watch is armed again on
//! whatever stands at the path.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, Select, Sender, TrySendError};

use super::events::{Events, Signal, Sink};
use super::look::{look, scan};
use super::settle::{MAX_FILES, Settle};
use super::{INTERVAL_MIN, Report, RescanCause, WatchMode, WatchOptions};
use crate::clock::{Clock, SystemClock};

/// Between two attempts to find a directory that is away.
const ABSENT_INTERVAL: Duration = Duration::from_millis(100);
/// Looks between two glances at the events, so that the thread stays responsive
/// (a look takes about 5 us).
const LOOKS_PER_TURN: usize = 256;

pub(super) struct Feed {
    directory: PathBuf,
    options: WatchOptions,
    settle: Settle,
    sink: Sink,
    reports: Sender<Report>,
    mode: Arc<Mutex<WatchMode>>,
    events: Option<Events>,
    /// What stood at the path when the watch was armed.
    armed_on: Option<Identity>,
    /// Counts armings, to know late signals of an earlier one.
    arming: u64,
    next_scan: Duration,
    next_check: Duration,
    /// When events are asked for again, if there are none.
    next_retry: Duration,
    /// Why the next scan is worth a notice.
    cause: Option<RescanCause>,
    is_crowded: bool,
}

/// A directory as told from another at the same path. Inode numbers are used
/// again at once on some file systems, hence the time of birth.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl Feed {
    /// Arms the watch, so that the mode is known before the thread runs.
    pub(super) fn new(
        directory: PathBuf,
        options: WatchOptions,
        signals: Sender<Signal>,
        reports: Sender<Report>,
    ) -> Feed {
        let mut feed = Feed {
            settle: Settle::new(directory.clone()),
            directory,
            options,
            sink: Sink::new(signals),
            reports,
            mode: Arc::new(Mutex::new(WatchMode::Events)),
            events: None,
            armed_on: None,
            arming: 0,
            next_scan: Duration::ZERO,
            next_check: Duration::ZERO,
            next_retry: Duration::ZERO,
            cause: None,
            is_crowded: false,
        };
        feed.arm();
        feed.cause = Some(RescanCause::Start);
        feed
    }

    pub(super) fn mode(&self) -> Arc<Mutex<WatchMode>> {
        self.mode.clone()
    }

    /// Runs until `stop` closes or nobody reads the reports.
    pub(super) fn run(mut self, signals: &Receiver<Signal>, stop: &Receiver<()>) {
        loop {
            let now = SystemClock.now();
            if now >= self.next_check {
                self.check(now);
            }
            if now >= self.next_scan {
                self.rescan(now);
            }
            self.look_at_due();
            let is_blocked = match self.deliver() {
                Ok(is_blocked) => is_blocked,
                Err(Disconnected) => return,
            };
            match self.wait(signals, stop, is_blocked) {
                Wake::Stop => return,
                Wake::Signal(signal) => self.take_signals(signal, signals),
                Wake::Time => {}
            }
        }
    }

    /// Arms the watch on what stands at the path now, and has it scanned.
    fn arm(&mut self) {
        self.events = None;
        self.arming += 1;
        self.cause = Some(RescanCause::Rearmed);
        self.next_scan = Duration::ZERO;
        self.next_check = Duration::ZERO;
        self.armed_on = None;
        let mode = match Identity::of(&self.directory) {
            Err(error) => WatchMode::Absent { reason: error.to_string() },
            Ok(identity) => {
                self.armed_on = Some(identity);
                match self.arm_events() {
                    Ok(events) => {
                        self.events = Some(events);
                        WatchMode::Events
                    }
                    Err(reason) => {
                        let interval = self.options.poll_interval.max(INTERVAL_MIN);
                        WatchMode::Polling { reason, interval }
                    }
                }
            }
        };
        self.set_mode(mode);
    }

    fn arm_events(&self) -> Result<Events, String> {
        if self.options.force_polling {
            return Err("asked for in the options".into());
        }
        Events::arm(&self.directory, self.arming, self.sink.clone())
    }

    fn set_mode(&mut self, mode: WatchMode) {
        let mut current = self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != mode {
            *current = mode.clone();
            drop(current);
            self.settle.notice(Report::Mode(mode));
        }
    }

    /// Arms again if the directory is another than the armed one, or if it is
    /// time to see whether there are events by now.
    fn check(&mut self, now: Duration) {
        let found = Identity::of(&self.directory).ok();
        if found != self.armed_on {
            self.arm();
        } else if self.events.is_none() && self.armed_on.is_some() && now >= self.next_retry {
            self.next_retry = now + self.options.rescan_interval.max(INTERVAL_MIN);
            if let Ok(events) = self.arm_events() {
                self.events = Some(events);
                self.cause = Some(RescanCause::Rearmed);
                self.next_scan = Duration::ZERO;
                self.set_mode(WatchMode::Events);
            }
        }
        let interval = match self.armed_on {
            Some(_) => self.options.check_interval.max(INTERVAL_MIN),
            None => ABSENT_INTERVAL,
        };
        self.next_check = now + interval;
    }

    fn rescan(&mut self, now: Duration) {
        let interval = match &self.events {
            Some(_) => self.options.rescan_interval.max(INTERVAL_MIN),
            None => self.options.poll_interval.max(INTERVAL_MIN),
        };
        self.next_scan = now + interval;
        match scan(&self.directory, MAX_FILES) {
            Ok((found, is_crowded)) => {
                self.settle.scanned(&found, !is_crowded, now);
                if let Some(cause) = self.cause.take() {
                    self.settle.notice(Report::Rescanned { cause, files: found.len() });
                }
                if is_crowded && !self.is_crowded {
                    self.settle.notice(Report::TooManyFiles { limit: MAX_FILES });
                }
                self.is_crowded = is_crowded;
            }
            Err(error) => {
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    self.settle.scanned(&[], true, now);
                }
                self.events = None;
                self.armed_on = None;
                self.next_check = now + ABSENT_INTERVAL;
                self.set_mode(WatchMode::Absent { reason: error.to_string() });
            }
        }
    }

    fn look_at_due(&mut self) {
        for name in self.settle.take_due(SystemClock.now(), LOOKS_PER_TURN) {
            let looked = look(&self.directory.join(&*name));
            self.settle.looked(&name, looked, SystemClock.now());
        }
    }

    /// Hands on what the reader has room for; true if there is more.
    fn deliver(&mut self) -> Result<bool, Disconnected> {
        while let Some(report) = self.settle.front() {
            match self.reports.try_send(report) {
                Ok(()) => self.settle.delivered(),
                Err(TrySendError::Full(_)) => return Ok(true),
                Err(TrySendError::Disconnected(_)) => return Err(Disconnected),
            }
        }
        Ok(false)
    }

    fn wait(&self, signals: &Receiver<Signal>, stop: &Receiver<()>, is_blocked: bool) -> Wake {
        let mut select = Select::new();
        let stopped = select.recv(stop);
        let signalled = select.recv(signals);
        if is_blocked {
            // Room for a report is only a reason to wake: what is sent then is
            // what is true then.
            select.send(&self.reports);
        }
        let mut next = self.next_scan.min(self.next_check);
        if let Some(due) = self.settle.next_due() {
            next = next.min(due);
        }
        let timeout = next.saturating_sub(SystemClock.now());
        match select.ready_timeout(timeout) {
            Ok(ready) if ready == stopped => Wake::Stop,
            Ok(ready) if ready == signalled => match signals.try_recv() {
                Ok(signal) => Wake::Signal(signal),
                Err(_) => Wake::Time,
            },
            Ok(_) | Err(_) => Wake::Time,
        }
    }

    /// Takes every signal that waits, so that a look comes after all that is
    /// known of a file.
    fn take_signals(&mut self, first: Signal, signals: &Receiver<Signal>) {
        let waiting = signals.try_iter().take(self.options.event_queue);
        for signal in std::iter::once(first).chain(waiting) {
            match signal {
                Signal::Hint { name, hint, at } => self.settle.hint(&name, hint, at),
                Signal::Overflow => self.overflowed(),
                Signal::DirectoryLost { arming } if arming == self.arming => self.arm(),
                Signal::DirectoryLost { .. } => {}
            }
        }
        // Acquire pairs with the Release of the sink's store.
        if self.sink.has_overflowed.swap(false, Ordering::Acquire) {
            self.overflowed();
        }
    }

    fn overflowed(&mut self) {
        self.cause = self.cause.or(Some(RescanCause::Overflow));
        self.next_scan = Duration::ZERO;
    }
}

/// Nobody reads the reports any more.
struct Disconnected;

enum Wake {
    Stop,
    Signal(Signal),
    Time,
}

impl Identity {
    fn of(directory: &Path) -> io::Result<Identity> {
        // A directory that cannot be read is as good as away.
        drop(fs::read_dir(directory)?);
        let metadata = fs::metadata(directory)?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() })
    }
}
