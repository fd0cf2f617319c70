//! The command loop: the one owner of what is live.
//!
//! One thread takes reports of the watcher and commands of handles, one after
//! the other, and runs deployments to their end. Everything else asks it, or
//! reads what it publishes; status never waits for it. A panic in it ends the
//! host as a shutdown does, and is told to whoever shuts it down.

use super::{
    backoff::Backoff,
    first_files::FirstFiles,
    lock::DataLock,
    options::HostBuilder,
    shared::Shared,
    spare::SpareMemory,
    stored::Imported,
    stuck::StuckCalls,
    turns::Turns,
    undoing::Undoing,
    untrusted::Untrusted,
    waiting::{Checking, Committing, Descending, DescentWork, Done, First, RestoreDone},
};
use crate::{
    artifact::{
        stage::Stager,
        trust::Trust,
        watch::{Report, Watcher},
    },
    dispatch::{self, Share},
    event::{EventKind, FailureReport},
    failure::Code,
    id::{PluginName, VersionId},
    pipeline::Worker,
    state::{envelope::Envelope, store::SnapshotStore},
};
use crossbeam::channel::{self, Receiver, Sender};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// What handles ask of the loop.
pub(super) enum Command {
    /// Chooses a version, or none: then the highest is wanted again.
    Activate {
        name: PluginName,
        version: Option<semver::Version>,
        done: oneshot::Sender<Result<VersionId, FailureReport>>,
    },
    /// Lets a version serve a share of the calls.
    Try {
        name: PluginName,
        version: semver::Version,
        share: Share,
        done: oneshot::Sender<Result<VersionId, FailureReport>>,
    },
    /// Lets the version that is being tried serve all calls.
    Promote { name: PluginName, done: oneshot::Sender<Result<VersionId, FailureReport>> },
    /// Gives up the way back to the version before.
    Commit { name: PluginName, done: oneshot::Sender<Result<VersionId, FailureReport>> },
    /// Asks other things of files.
    SetTrust { trust: Trust, done: oneshot::Sender<Result<(), FailureReport>> },
    /// Gives what a check of a file takes.
    Check {
        file: PathBuf,
        state: Option<Vec<u8>>,
        done: oneshot::Sender<Result<Box<Checking>, FailureReport>>,
    },
    /// Saves the state of all plugins now.
    SaveState { done: oneshot::Sender<Result<usize, FailureReport>> },
    /// Makes this the newest snapshot of its plugin.
    ImportState { envelope: Box<Envelope>, done: oneshot::Sender<Result<Imported, FailureReport>> },
    /// Makes a snapshot, or the newest one, the state of a plugin.
    RestoreState { name: PluginName, snapshot: Option<u64>, done: RestoreDone },
    /// Ends the host.
    Shutdown { done: Sender<()> },
}

/// How often what waits is looked at: unloads, retries, versions that leave.
const TICK: Duration = Duration::from_millis(100);
/// Commands that wait for tables; more are refused.
const POSTPONED_MAX: usize = 64;

pub(super) struct Control {
    pub(super) options: HostBuilder,
    /// For what may outlast the loop.
    pub(super) lock: Arc<DataLock>,
    pub(super) shared: Arc<Shared>,
    pub(super) watcher: Watcher,
    pub(super) stager: Stager,
    pub(super) store: Arc<SnapshotStore>,
    pub(super) worker: Worker,
    /// What is waited for before anything is deployed.
    pub(super) first_files: FirstFiles,
    /// Files that changed while they were copied, and how often.
    pub(super) unsteady: BTreeMap<PathBuf, u32>,
    /// Files for which the private store had no room.
    pub(super) not_stored: Backoff<PathBuf>,
    /// Files for which nobody vouches yet.
    pub(super) untrusted: Untrusted,
    /// The versions that served and are in memory, as dispatch names them.
    pub(super) in_memory: BTreeMap<dispatch::VersionId, VersionId>,
    /// The version for which each plugin's tables were committed last.
    pub(super) committed: BTreeMap<PluginName, VersionId>,
    /// Until when the tables of a version that serves without one before it are
    /// not committed.
    pub(super) commit_at: BTreeMap<PluginName, Instant>,
    /// Deployments that wait until rows are within their version's reach.
    pub(super) descents: BTreeMap<PluginName, Descending>,
    /// What is done first for deployments that wait for it.
    pub(super) firsts: BTreeMap<PluginName, First>,
    /// Where rehearsals write.
    pub(super) rehearsals: PathBuf,
    /// Set when they have to end, because the host does.
    pub(super) ends: Arc<AtomicBool>,
    /// Descents that were given up, and what of them still runs.
    pub(super) given_up: Vec<DescentWork>,
    /// Tables that are being committed, and the versions that wait for it.
    pub(super) commits: BTreeMap<PluginName, Committing>,
    /// What is being done to leave tables as they were before a version that was
    /// refused.
    pub(super) undone: BTreeMap<PluginName, Undoing>,
    /// Trials and restores that wait until their plugin's tables are settled.
    pub(super) postponed: Vec<(PluginName, Command)>,
    /// Who waits for such a deployment.
    pub(super) asked: BTreeMap<PluginName, Done>,
    /// Versions whose export hangs, which was reported.
    pub(super) hanging_exports: BTreeSet<VersionId>,
    /// Why choices could not be kept, which was reported.
    pub(super) choices_failed: Option<String>,
    /// Who may rehearse now: many at once would take the cores from callers, and time from
    /// each other.
    pub(super) turns: Arc<Turns>,
    /// What rows have left behind.
    pub(super) spare: SpareMemory,
    /// When a watch that ended is started again.
    pub(super) rewatch_at: Option<Instant>,
    /// When a host that ends waits no longer; nothing is deployed any more.
    pub(super) ends_at: Option<Instant>,
}

/// What the loop does next.
enum Turn {
    Again,
    /// The end, and who waits for it.
    End(Option<Sender<()>>),
}

/// What wakes the loop.
struct Wakers {
    tick: Receiver<Instant>,
    look: Receiver<Instant>,
    save: Receiver<Instant>,
}

impl Control {
    /// Runs until a shutdown is commanded or every handle is gone.
    ///
    /// # Errors
    /// The text of a panic, which ended it.
    pub(super) fn run(mut self, commands: &Receiver<Command>) -> Result<(), String> {
        let mut stuck = StuckCalls::new(self.options.stuck_after);
        let wakers = Wakers {
            tick: channel::tick(TICK),
            look: channel::tick(stuck.interval()),
            save: channel::tick(self.options.snapshot_interval),
        };
        let mut result = Ok(());
        let waiting = loop {
            // What a panic leaves is consistent enough to be taken down: locks
            // are not poisoned, and each version is owned by its slot or by an
            // unload.
            match catch_unwind(AssertUnwindSafe(|| self.turn(commands, &wakers, &mut stuck))) {
                Ok(Turn::Again) => {}
                Ok(Turn::End(done)) => break done,
                Err(panic) => {
                    result = Err(self.panicked(&*panic));
                    break None;
                }
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.shut_down())) {
            result = Err(self.panicked(&*panic));
        }
        self.shared.event(None, EventKind::Stopped);
        self.shared.events.close();
        // Everything that the host holds is given back before anybody is told.
        drop(self);
        if let Some(done) = waiting {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
        result
    }

    fn turn(&mut self, commands: &Receiver<Command>, wakers: &Wakers, stuck: &mut StuckCalls) -> Turn {
        let reports = match self.rewatch_at {
            None => self.watcher.reports().clone(),
            Some(_) => channel::never(),
        };
        channel::select! {
            recv(reports) -> report => match report {
                Ok(report) => self.take_reports(report, &reports),
                Err(_) => self.watch_ended(),
            },
            recv(commands) -> command => match command {
                Ok(command) => return self.obey(command),
                Err(_) => return Turn::End(None),
            },
            recv(wakers.tick) -> _ => self.look_around(Instant::now()),
            recv(self.shared.nudged()) -> _ => {
                self.end_probations(Instant::now());
                self.go_on();
            }
            recv(wakers.look) -> _ => self.look_for_stuck_calls(stuck),
            // What failed was reported as events.
            recv(wakers.save) -> _ => drop(self.save_all()),
        }
        Turn::Again
    }

    fn obey(&mut self, command: Command) -> Turn {
        // Whoever asked may have gone away meanwhile.
        match command {
            Command::Try { ref name, .. } | Command::RestoreState { ref name, .. }
                if self.is_to_be_postponed(name) =>
            {
                self.postponed.push((name.clone(), command));
            }
            Command::Activate { name, version, done } => {
                self.activate(&name, version, done);
            }
            Command::Try { name, version, share, done } => {
                self.try_version(&name, &version, share, done);
            }
            Command::Promote { name, done } => {
                let active = self.promote(&name);
                let _ = done.send(active.and_then(|id| self.shared.keep_choices().map(|()| id)));
            }
            Command::Commit { name, done } => {
                let _ = done.send(self.commit(&name));
            }
            Command::SetTrust { trust, done } => {
                let _ = done.send(self.set_trust(trust));
            }
            Command::Check { file, state, done } => {
                let _ = done.send(self.begin_check(&file, state.as_deref()));
            }
            Command::SaveState { done } => {
                let _ = done.send(self.save_all());
            }
            Command::ImportState { envelope, done } => {
                let _ = done.send(self.import_state(&envelope));
            }
            Command::RestoreState { name, snapshot, done } => {
                self.restore_state(&name, snapshot, done);
            }
            Command::Shutdown { done } => return Turn::End(Some(done)),
        }
        Turn::Again
    }

    /// Whether nothing but the plugin's tables has to be waited for, which takes a
    /// moment as long as their disk works.
    fn is_to_be_postponed(&self, name: &PluginName) -> bool {
        self.settles(name) && !self.is_deploying(name) && self.postponed.len() < POSTPONED_MAX
    }

    /// Takes up the commands that waited for tables, in the order in which they came.
    pub(super) fn obey_postponed(&mut self) {
        for (name, command) in std::mem::take(&mut self.postponed) {
            if self.settles(&name) {
                self.postponed.push((name, command));
            } else {
                self.obey(command);
            }
        }
    }

    /// Looks at everything that waits.
    fn look_around(&mut self, now: Instant) {
        self.clear_unloads();
        self.end_probations(now);
        self.go_on();
        self.watch_again(now);
        self.store_again(now);
        self.look_for_signatures(now);
        self.let_go_of_leaving(now);
        let due = self.shared.catalog().pass_time(now);
        self.reconcile_all(due);
        if self.first_files.give_up(now) {
            self.first_files_are_read();
        }
        self.settle_tables();
        self.spare.look(now);
        self.keep_choices();
    }

    /// Files that went may have taken a choice with them.
    pub(super) fn keep_choices(&mut self) {
        let kept = self.shared.keep_choices();
        let failed = kept.as_ref().err().map(ToString::to_string);
        if let (Err(failure), true) = (kept, failed != self.choices_failed) {
            self.shared.event(None, EventKind::HostProblem { failure });
        }
        self.choices_failed = failed;
    }

    fn take_reports(&mut self, first: Report, more: &Receiver<Report>) {
        self.take_report(first);
        for report in more.try_iter().take(REPORTS_AT_ONCE_MAX) {
            self.take_report(report);
        }
        if self.first_files.are_read(Instant::now()) {
            self.first_files_are_read();
        }
    }

    fn first_files_are_read(&mut self) {
        let names = {
            let mut catalog = self.shared.catalog();
            if self.first_files.are_all_heard_of() {
                catalog.started();
            }
            catalog.names()
        };
        self.reconcile_all(names);
    }

    /// Says that something about the host itself needs attention.
    pub(super) fn problem(&self, code: Code, message: String) {
        self.shared.event(None, EventKind::HostProblem { failure: FailureReport::with_code(code, message) });
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> String {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        self.problem(
            Code::HostUncleanEnd,
            format!("the host ends, because its command loop panicked: {text}"),
        );
        text.to_owned()
    }
}

/// Reports that are taken before a deployment begins, so that of many files the
/// highest version is deployed and not each of them.
const REPORTS_AT_ONCE_MAX: usize = 4096;

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
