//! A host in a temporary directory, driven by files as an operator would.

use replug_host::{
    Host, HostBuilder, Plugin,
    event::{Event, EventKind, Events, FailureReport, Next},
};
use std::{
    collections::VecDeque,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a test waits for something before it fails; generous, because
/// machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Events that a harness remembers.
const SEEN_MAX: usize = 1024;

/// How a file gets into the plugin directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Written in place by one copy.
    Copy,
    /// Copied beside the directory and renamed in.
    Rename,
    /// Linked in, without a write.
    HardLink,
    /// Written over what is there, without removing it first.
    Overwrite,
    /// Written in place in two halves, with a flush between them.
    Halves,
}

/// A running host and what happened in it.
pub struct Harness {
    /// The host.
    pub host: Host,
    events: Events,
    seen: VecDeque<Arc<Event>>,
    home: TempDir,
}

impl Default for Harness {
    fn default() -> Self {
        Harness::new()
    }
}

impl Harness {
    /// A host with default options.
    pub fn new() -> Self {
        Harness::with(|options| options)
    }

    /// A host with other options.
    pub fn with(adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        Harness::again(tempfile::tempdir().expect("a temporary directory"), adjust)
    }

    /// A host on the directories of an earlier one.
    pub fn again(home: TempDir, adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        let plugins = home.path().join("plugins");
        fs::create_dir_all(&plugins).expect("the plugin directory");
        let options = Host::builder(&plugins).data_dir(home.path().join("data"));
        let host = adjust(options).start().expect("the host starts");
        let events = host.events_since(1);
        Harness { host, events, seen: VecDeque::new(), home }
    }

    /// The plugin directory.
    pub fn plugin_dir(&self) -> PathBuf {
        self.home.path().join("plugins")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A handle to a plugin.
    pub fn plugin(&self, name: &str) -> Plugin {
        self.host.plugin(name).expect("a valid name")
    }

    /// Puts a file into the plugin directory.
    pub fn drop_file(&self, how: How, source: &Path, name: &str) {
        let target = self.plugin_dir().join(name);
        let beside = self.home.path().join(format!("{name}.part"));
        match how {
            How::Copy => drop(fs::copy(source, target).expect("copies")),
            How::Rename => {
                fs::copy(source, &beside).expect("copies");
                fs::rename(&beside, target).expect("renames");
            }
            How::HardLink => {
                fs::copy(source, &beside).expect("copies");
                fs::hard_link(&beside, target).expect("links");
                fs::remove_file(&beside).expect("unlinks");
            }
            How::Overwrite => {
                let bytes = fs::read(source).expect("reads");
                let mut file = fs::OpenOptions::new().write(true).truncate(true).open(target).expect("opens");
                file.write_all(&bytes).expect("writes");
            }
            How::Halves => {
                let mut bytes = Vec::new();
                fs::File::open(source).and_then(|mut file| file.read_to_end(&mut bytes)).expect("reads");
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let mut file = fs::File::create(target).expect("creates");
                file.write_all(first).and_then(|()| file.sync_all()).expect("writes");
                file.write_all(second).expect("writes");
            }
        }
    }

    /// Renames a file in and waits until its version serves.
    pub fn deploy(&mut self, source: &Path, name: &str, version: &str) {
        self.drop_file(How::Rename, source, name);
        self.published(version);
    }

    /// Removes a file from the plugin directory.
    pub fn delete(&self, name: &str) {
        fs::remove_file(self.plugin_dir().join(name)).expect("removes");
    }

    /// Chooses a version and waits for the outcome.
    pub fn activate(&self, name: &str, version: &str) -> Result<String, FailureReport> {
        let name = name.parse().expect("a valid name");
        let version = Some(version.parse().expect("a version"));
        match self.host.activate(&name, version).wait() {
            Ok(id) => Ok(id.to_string()),
            Err(replug_host::HostError::Failed(report)) => Err(report),
            Err(other) => panic!("the host did not answer: {other}"),
        }
    }

    /// Waits for an event; fails the test with what happened instead.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn expect(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Arc<Event> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.events.next_within(until.saturating_duration_since(Instant::now())) {
                Next::Event(event) => {
                    self.remember(&event);
                    if wanted(&event) {
                        return event;
                    }
                }
                Next::Lost(count) => panic!("{count} events are lost"),
                Next::Nothing | Next::Ended => {
                    let seen: Vec<String> = self.seen.iter().map(|event| format!("{event:?}")).collect();
                    panic!("{what} did not happen; this did:\n{}", seen.join("\n"));
                }
            }
        }
    }

    /// Waits until a version, `name@semver`, is published.
    pub fn published(&mut self, version: &str) -> Arc<Event> {
        self.expect(&format!("publishing {version}"), |event| {
            matches!(event.kind, EventKind::Published { .. }) && is(event, version)
        })
    }

    /// Waits until a version is proven to be unmapped.
    pub fn unloaded(&mut self, version: &str) -> Arc<Event> {
        self.expect(&format!("unloading {version}"), |event| {
            matches!(event.kind, EventKind::Unloaded { .. }) && is(event, version)
        })
    }

    /// The same for a version that was loaded once only, and may be gone by now:
    /// what is told of one that was refused and of its end comes in either order.
    pub fn gone(&mut self, version: &str) {
        let is_gone =
            |event: &Arc<Event>| matches!(event.kind, EventKind::Unloaded { .. }) && is(event, version);
        if !self.seen.iter().any(is_gone) {
            self.unloaded(version);
        }
    }

    /// Waits until a version is refused by its own doing.
    pub fn not_deployed(&mut self, version: &str) -> FailureReport {
        let event = self.expect(&format!("refusing {version}"), |event| {
            matches!(event.kind, EventKind::DeployFailed { .. }) && is(event, version)
        });
        match &event.kind {
            EventKind::DeployFailed { failure, .. } => failure.clone(),
            _ => unreachable!("just matched"),
        }
    }

    /// Waits until a file is refused.
    pub fn refused(&mut self, name: &str) -> FailureReport {
        let event = self.expect(
            &format!("refusing {name}"),
            |event| matches!(&event.kind, EventKind::Refused { path, .. } if path.ends_with(name)),
        );
        match &event.kind {
            EventKind::Refused { failure, .. } => failure.clone(),
            _ => unreachable!("just matched"),
        }
    }

    /// Ends the host; its latest events, and the directories for another one.
    pub fn shutdown(mut self) -> (Vec<Arc<Event>>, TempDir) {
        self.host.shutdown().expect("the host runs");
        while let Next::Event(event) = self.events.next_within(Duration::ZERO) {
            self.seen.push_back(event);
        }
        (self.seen.into(), self.home)
    }

    /// Keeps the latest events, for the message of a test that fails.
    fn remember(&mut self, event: &Arc<Event>) {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Arc::clone(event));
    }
}

/// Whether an event is about a version, `name@semver`.
pub fn is(event: &Event, version: &str) -> bool {
    event.version.as_deref().and_then(|id| id.split('+').next()) == Some(version)
}

/// Waits until `done`; fails the test when it does not become so.
///
/// # Panics
/// When it is not done in time.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what} did not come true");
        // sleep: between two looks; to spin would starve what is waited for.
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether a thread of this process has the name.
pub fn has_thread(wanted: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").expect("Linux tells");
    threads.filter_map(Result::ok).any(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim_end() == wanted)
    })
}

/// To be held by who begins a process, and by who gives up what is locked for a file: for
/// a moment a process that begins has all files of this one open, and with them the locks
/// on data directories and stores.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
