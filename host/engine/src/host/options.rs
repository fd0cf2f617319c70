//! How a host is set up.

mod checked;

use crate::{
    artifact::{stage::StageLimits, trust::Trust, watch::WatchOptions},
    load::Interfaces,
    pipeline::UnloadOptions,
    rehearse::{Bounds, Rehearsal, WantedInterface},
    service::ServiceLimits,
    state::store::StoreOptions,
    table::Limits,
};
use replug_abi::TypedInterface;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// What happens when the file of the version that serves is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemovalPolicy {
    /// The next version present takes over; without one the plugin is retired. [In
    /// production](Trust::production) it is one that has served before, or none.
    #[default]
    FallBack,
    /// It serves on until another version is wanted.
    Keep,
}

/// What happens to a file with the version that serves and other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameVersion {
    /// It takes over, as it should where code is built, dropped and tried; not
    /// [in production](Trust::production).
    #[default]
    Replace,
    /// It is refused with `deploy.same_version`: a version then names one
    /// library for good, as it should in production.
    Refuse,
}

/// The longest time that an option can have; more is meant as "no limit".
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Sets a host up. Every bound has a default that suits most.
///
/// ```no_run
/// use replug_host::Host;
///
/// let host = Host::builder("plugins").data_dir("data").start()?;
/// let hello = host.plugin("hello")?;
/// hello.call("greet", b"world")?;
/// host.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "start() starts the host"]
pub struct HostBuilder {
    pub(super) plugin_dir: PathBuf,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) configs: BTreeMap<String, serde_json::Value>,
    pub(super) removal: RemovalPolicy,
    pub(super) same_version: SameVersion,
    pub(super) allow_state_loss: bool,
    pub(super) watch: WatchOptions,
    pub(super) stage: StageLimits,
    pub(super) trust: Trust,
    pub(super) rehearsal: Option<Rehearsal>,
    pub(super) keep_calls: BTreeMap<String, usize>,
    pub(super) service: ServiceLimits,
    pub(super) interfaces: Interfaces,
    pub(super) table_limits: Limits,
    pub(super) accept_table_loss: bool,
    too_many_interfaces: bool,
    pub(super) unload: UnloadOptions,
    pub(super) quiesce_timeout: Duration,
    pub(super) state_bytes_max: usize,
    pub(super) snapshot_interval: Duration,
    pub(super) snapshots_kept: usize,
    pub(super) stuck_after: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) probation: Duration,
    pub(super) residents_max: usize,
}

impl HostBuilder {
    /// The limits of each table where [`table_limits`](Self::table_limits) sets
    /// no others.
    pub const TABLE_LIMITS: Limits = Limits { rows_max: 100_000_000, bytes_max: 8 * 1024 * 1024 * 1024 };

    pub(super) fn new(plugin_dir: &Path) -> Self {
        HostBuilder {
            plugin_dir: plugin_dir.to_owned(),
            data_dir: None,
            configs: BTreeMap::new(),
            removal: RemovalPolicy::default(),
            same_version: SameVersion::default(),
            allow_state_loss: false,
            watch: WatchOptions::default(),
            stage: StageLimits::default(),
            trust: Trust::development(),
            rehearsal: None,
            keep_calls: BTreeMap::new(),
            service: ServiceLimits {
                gate_timeout: Duration::from_secs(5),
                body_bytes_max: 16 * 1024 * 1024,
                answer_bytes_max: 64 * 1024 * 1024,
                in_flight_max: None,
            },
            interfaces: Interfaces::default(),
            table_limits: Self::TABLE_LIMITS,
            accept_table_loss: false,
            too_many_interfaces: false,
            unload: UnloadOptions {
                hook_timeout: Duration::from_secs(10),
                detach_timeout: Duration::from_millis(200),
                threads_timeout: Duration::from_secs(1),
            },
            quiesce_timeout: Duration::from_secs(2),
            state_bytes_max: 256 * 1024 * 1024,
            snapshot_interval: Duration::from_secs(60),
            snapshots_kept: StoreOptions::default().keep_newest,
            stuck_after: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
            probation: Duration::ZERO,
            residents_max: 16,
        }
    }

    /// What plugins are allowed, as far as that matters to a rehearsal.
    pub(super) fn bounds(&self) -> Bounds {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Bounds {
            state_bytes: self.state_bytes_max as u64,
            table_rows: self.table_limits.rows_max,
            table_bytes: self.table_limits.bytes_max,
            body_bytes: self.service.body_bytes_max as u64,
            answer_bytes: self.service.answer_bytes_max as u64,
            stop_ms: ms(self.unload.hook_timeout),
            threads_ms: ms(self.unload.threads_timeout),
        }
    }

    /// The typed interfaces, as a helper is told of them.
    pub(super) fn wanted_interfaces(&self) -> Vec<WantedInterface> {
        let told = |(id, version): (&str, replug_abi::InterfaceVersion)| WantedInterface {
            id: id.to_owned(),
            version: version.to_string(),
        };
        self.interfaces.wanted().map(told).collect()
    }

    /// Where private copies and snapshots are kept, on a file system that
    /// allows execution. Default: `.<name>.replug` beside the plugin directory
    /// `<name>`. Two hosts cannot share it.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// The configuration of one plugin.
    pub fn config(mut self, plugin: impl Into<String>, config: serde_json::Value) -> Self {
        self.configs.insert(plugin.into(), config);
        self
    }

    /// Registers a typed interface, so that plugins can be called through it:
    /// `interface::<dyn Filter>()`, see [`Typed`](crate::Typed). A version that
    /// has it only with another layout or of another major is refused. A host has
    /// 32 of them at most.
    pub fn interface<I: TypedInterface + ?Sized>(mut self) -> Self {
        self.too_many_interfaces |= !self.interfaces.add::<I>();
        self
    }

    /// What happens when the file of the version that serves is deleted.
    pub fn removal(mut self, policy: RemovalPolicy) -> Self {
        self.removal = policy;
        self
    }

    /// What happens to a file with the version that serves and other bytes.
    pub fn same_version(mut self, policy: SameVersion) -> Self {
        self.same_version = policy;
        self
    }

    /// Whether a way back without a migration step may take the newest snapshot
    /// of the older schema, losing what was written since. Default: no.
    pub fn allow_state_loss(mut self, allow: bool) -> Self {
        self.allow_state_loss = allow;
        self
    }

    /// How the directory is watched.
    pub fn watch(mut self, options: WatchOptions) -> Self {
        self.watch = options;
        self
    }

    /// The largest plugin file in bytes. Default 512 MiB.
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.stage.max_bytes = bytes;
        self
    }

    /// Whose files are loaded. Default: [everybody's](Trust::development) who can write
    /// to the plugin directory.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// How versions are rehearsed before they are loaded. Default: not at all.
    ///
    /// Each new file goes through the whole upgrade in a child process first, beside
    /// calls. A helper that is missing is an error, and nothing is deployed.
    pub fn rehearsal(mut self, rehearsal: Rehearsal) -> Self {
        self.rehearsal = Some(rehearsal);
        self
    }

    /// Keeps the last calls of a plugin, `count` at most, in memory, so that a rehearsal
    /// makes them again: on the version that serves and on the new one, as far as both say
    /// that a method is repeatable. Answers that differ are told with
    /// [`EventKind::Rehearsed`](crate::event::EventKind::Rehearsed).
    ///
    /// Default: none are kept, since a call may say what nobody should keep. Kept are
    /// calls by name, of up to 64 KiB, and 1 MiB of them in all. Those of a version with
    /// tables are not made again, as its rows are not there in a rehearsal.
    pub fn keep_calls(mut self, plugin: impl Into<String>, count: usize) -> Self {
        self.keep_calls.insert(plugin.into(), count);
        self
    }

    /// Whether only files are loaded that somebody vouches for.
    pub fn is_production(&self) -> bool {
        self.trust.is_production()
    }

    /// How long a sync call waits at the gate while state is handed over,
    /// before it is refused with `gate.timeout`. Default 5 s.
    ///
    /// A hand-over is given up, and the gate opens again, when nine tenths of
    /// it have passed: so callers are refused only if the host itself is held
    /// up. An async call waits until its own deadline, however far that is.
    pub fn gate_timeout(mut self, timeout: Duration) -> Self {
        self.service.gate_timeout = timeout;
        self
    }

    /// How long a hand-over waits for calls in flight before it is abandoned;
    /// part of what `gate_timeout` allows, and below it. Default 2 s.
    pub fn quiesce_timeout(mut self, timeout: Duration) -> Self {
        self.quiesce_timeout = timeout;
        self
    }

    /// How long a hook may run. Default 10 s.
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.unload.hook_timeout = timeout;
        self
    }

    /// How long an unload waits for the plugin's threads to end before it
    /// reports the version as resident. Default 1 s.
    pub fn threads_timeout(mut self, timeout: Duration) -> Self {
        self.unload.threads_timeout = timeout;
        self
    }

    /// How long an unload waits for the host's threads to pass by before it
    /// gives their thread-locals up. Default 200 ms.
    pub fn detach_timeout(mut self, timeout: Duration) -> Self {
        self.unload.detach_timeout = timeout;
        self
    }

    /// The largest body of a call in bytes. Default 16 MiB.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.service.body_bytes_max = bytes;
        self
    }

    /// The largest answer in bytes. Default 64 MiB.
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.service.answer_bytes_max = bytes;
        self
    }

    /// Calls of one plugin in flight at once. Default: unbounded, and uncounted.
    pub fn in_flight_max(mut self, calls: usize) -> Self {
        self.service.in_flight_max = Some(calls);
        self
    }

    /// The most rows and bytes of each table of a plugin. Default 100 million rows
    /// and 8 GiB; a plugin can ask for less.
    pub fn table_limits(mut self, limits: Limits) -> Self {
        self.table_limits = limits;
        self
    }

    /// Goes on without what durable tables lack: their last writes after a power
    /// loss, or all that is missing because their folder was removed or replaced
    /// with an older copy. Default: such a plugin is refused with `table.loss` or
    /// `table.store_replaced`. What was accepted once is not asked for again.
    pub fn accept_table_loss(mut self, accept: bool) -> Self {
        self.accept_table_loss = accept;
        self
    }

    /// The largest state of a plugin in bytes. Default 256 MiB.
    pub fn state_bytes_max(mut self, bytes: usize) -> Self {
        self.state_bytes_max = bytes;
        self
    }

    /// How often snapshot state is saved, from 1 ms on. Default 60 s.
    pub fn snapshot_interval(mut self, interval: Duration) -> Self {
        self.snapshot_interval = interval;
        self
    }

    /// How many of a plugin's newest snapshots are kept, at least one; the newest
    /// of each schema version is kept besides. A deployment takes two, a restore
    /// three. Default 10.
    pub fn snapshots_kept(mut self, snapshots: usize) -> Self {
        self.snapshots_kept = snapshots;
        self
    }

    /// After how long a call is reported as stuck, from 1 ms on. Default 30 s.
    pub fn stuck_after(mut self, time: Duration) -> Self {
        self.stuck_after = time;
        self
    }

    /// How long a shutdown waits for calls and unloads. Default 10 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// How long a version that was replaced is kept ready, so that
    /// [`roll_back`](crate::Host::roll_back) is a matter of microseconds.
    /// Afterwards, or when it is [committed](crate::Host::commit), it is
    /// unloaded. Default none: it is unloaded at once. None is kept behind a
    /// version with state, which going back would leave behind.
    ///
    /// So long are rows of tables left as the version before reads them. If the
    /// process ends meanwhile, it begins anew with the next: a version that
    /// crashes the process does not take its own way back.
    pub fn probation(mut self, time: Duration) -> Self {
        self.probation = time;
        self
    }

    /// Versions that could not be unmapped, above which new deployments are
    /// refused. Default 16.
    pub fn residents_max(mut self, versions: usize) -> Self {
        self.residents_max = versions;
        self
    }
}
