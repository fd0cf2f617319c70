//! What can be seen of a host, as data.

use replug_abi::Durability;
use serde::Serialize;

/// A host at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostStatus {
    /// The plugin directory.
    pub plugin_dir: String,
    /// How changes of the directory are noticed.
    pub watching: String,
    /// Which barrier the dispatch core uses.
    pub barrier: String,
    /// Files are loaded whoever made them; in production only those for which a key or a
    /// digest vouches.
    pub trusts_anyone: bool,
    /// Versions that should be gone and are not.
    pub residents: usize,
    /// The plugins, by name.
    pub plugins: Vec<PluginStatus>,
}

impl HostStatus {
    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Option<&PluginStatus> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }
}

/// One plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginStatus {
    /// The plugin's name.
    pub name: String,
    /// Whether it serves.
    pub state: PluginState,
    /// The version that serves, `name@semver+digest8`.
    pub active: Option<String>,
    /// The version that an operator chose.
    pub pinned: Option<String>,
    /// Calls that the serving version was entered by.
    pub calls: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// Calls and leases whose deadline passed, over all versions.
    pub deadlines_passed: u64,
    /// Calls that run in the serving version now.
    pub in_flight: u64,
    /// Leases on the serving version.
    pub leases: Vec<LeaseStatus>,
    /// Live heap bytes of the serving version; `None` when its author opted
    /// out of the books.
    pub heap_bytes: Option<u64>,
    /// Threads of the serving version.
    pub threads: usize,
    /// The versions whose files are present, lowest first.
    pub versions: Vec<VersionStatus>,
    /// The version that serves a share of the calls beside the active one.
    pub trial: Option<TrialStatus>,
    /// The callers that go to one version of a trial whatever its share is, by
    /// name; they stay pinned between trials.
    pub pinned_callers: Vec<PinnedCaller>,
    /// The version that is kept ready to serve again at once.
    pub standby: Option<String>,
    /// What serves or is kept ready and would not be let in now, and why.
    pub distrusted: Vec<DistrustedStatus>,
    /// Versions on their way out.
    pub unloading: Vec<UnloadingStatus>,
    /// The plugin's tables, by name.
    pub tables: Vec<TableStatus>,
    /// An operator has paused the sweep of its tables, be one running or not.
    pub sweep_paused: bool,
    /// How long callers waited at the last hand-over, in microseconds.
    pub last_pause_us: Option<u64>,
    /// Unloads that were proven since the host started.
    pub unloads_proven: u64,
}

/// Whether a plugin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// No version serves.
    Absent,
    /// A version serves.
    Active,
    /// Two versions share the calls.
    Split,
    /// Callers wait while state is handed over.
    HandingOver,
}

/// A version that is being tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialStatus {
    /// `name@semver+digest8`.
    pub id: String,
    /// Its share of the calls, in hundredths of a percent.
    pub share_basis_points: u16,
    /// Calls that it was entered by.
    pub calls: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// Calls that run in it now.
    pub in_flight: u64,
    /// Leases on it.
    pub leases: Vec<LeaseStatus>,
}

/// A caller that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedCaller {
    /// What it calls itself.
    pub caller: String,
    /// Where its calls go.
    pub to: PinnedTo,
}

/// A version of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedTo {
    /// The active one.
    Active,
    /// The one that is being tried.
    Trial,
}

/// A version whose file is present.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// `name@semver+digest8`.
    pub id: String,
    /// The file.
    pub path: String,
    /// Whether it was refused; it is not tried by itself until its file changes.
    pub refused: bool,
    /// In how many milliseconds it is tried again, if it could not be deployed
    /// through no fault of its own.
    pub retry_in_ms: Option<u64>,
}

/// A version that serves, or can at once, and for which nobody vouches now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DistrustedStatus {
    /// `name@semver+digest8`.
    pub id: String,
    /// The code, as `trust.revoked_key`.
    pub code: String,
    /// Why, in words.
    pub reason: String,
}

/// Somebody who keeps a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// What for.
    pub holder: String,
    /// For how long, in microseconds.
    pub age_us: u64,
}

/// A table of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableStatus {
    /// The table's name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of keys, values and images, and 64 for each row.
    pub bytes: u64,
    /// The schema of the committed version, 0 before the first.
    pub schema: u32,
    /// When writes to it are acknowledged.
    pub durability: TableDurability,
    /// The sweep that brings its rows to that schema, or has done so.
    pub sweep: Option<SweepStatus>,
}

/// When a write to a table is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableDurability {
    /// When it is in memory.
    Memory,
    /// When it survives the end of the process.
    Process,
    /// When the disk has confirmed it.
    Disk,
}

impl TableDurability {
    pub(super) fn of(durability: Durability) -> Self {
        match durability {
            Durability::PROCESS => TableDurability::Process,
            Durability::DISK => TableDurability::Disk,
            _ => TableDurability::Memory,
        }
    }
}

/// How far a sweep of a table is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepStatus {
    /// Rows that were looked at.
    pub rows_done: u64,
    /// About how many are left.
    pub rows_left: u64,
    /// Of those done, rows that could not be converted and stay as they are.
    pub failed: u64,
    /// Rows in a second.
    pub rows_per_s: f64,
    /// In how many seconds it ends, at that rate.
    pub left_s: f64,
    /// An operator has paused it.
    pub paused: bool,
    /// It is over.
    pub done: bool,
}

/// A version on its way out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnloadingStatus {
    /// `name@semver+digest8`.
    pub id: String,
    /// What it is at: draining, saving, stopping, dropping, releasing its tables,
    /// detaching, closing; or hanging, in a hook that began before.
    pub stage: String,
    /// For how long, in microseconds.
    pub since_us: u64,
    /// Calls that still run in it.
    pub in_flight: u64,
    /// Who holds leases on it.
    pub leases: Vec<LeaseStatus>,
    /// What keeps it in memory; empty while it is merely under way.
    pub pins: Vec<String>,
}
