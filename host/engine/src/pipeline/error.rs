//! Why a version was not deployed. What served before serves on.

use crate::{
    artifact::{inspect::InspectError, stage::StageError, trust::TrustError},
    dispatch::{GateRefused, Holder},
    event::Stage,
    failure::{Code, Failure},
    id::VersionId,
    load::{HookError, LoadError},
    rehearse::RehearsalError,
    service::OpenError,
    state::{chain::NoPath, store::StoreError},
    table::TableError,
    table_store::TableStoreError,
};
use std::{io, time::Duration};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    #[error("the private copy cannot be made ready")]
    Patch(#[source] io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the note says {noted}, the code says {found}")]
    Identity { noted: String, found: String },
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("{count} versions are in memory at once, which is all that fit")]
    Exhausted { count: usize },
    #[error("{residents} unloaded versions are still in memory, which is the limit")]
    Residents { residents: usize },
    #[error("the state model changed from {from} to {to}")]
    Model { from: &'static str, to: &'static str },
    #[error("its state goes over as a whole, so two versions cannot serve at once")]
    SharedState,
    #[error(transparent)]
    NoPath(#[from] NoPath),
    /// Rows of a later schema.
    #[error(
        "{rows} rows of table {table} have schema {from}, and no version here turns them into schema {to}"
    )]
    Rows { table: String, from: u32, to: u32, rows: u64 },
    /// Rows of an earlier schema.
    #[error(
        "table {table} still has rows of schema {schema}, and no step of the version brings these up to {to}"
    )]
    Unswept { table: String, schema: u32, to: u32 },
    #[error(
        "what it writes to table {table} cannot be turned into schema {to}, which the version that serves reads, so both cannot serve at once"
    )]
    OneWay { table: String, to: u32 },
    #[error("calls on the version before the one that serves have not ended, and read its tables")]
    TablesInUse,
    #[error("there is no thread for it: {0}")]
    Thread(#[source] io::Error),
    #[error("the host's own code panicked")]
    Panicked,
    #[error("another version serves than when its rows began to be turned back")]
    Overtaken,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    TableStore(#[from] TableStoreError),
    #[error("schema {from} to {to}: the plugin offers this step and does not make it")]
    BrokenStep { from: u32, to: u32 },
    #[error("the file changed: it held {wanted}, and holds {found} now")]
    Replaced { wanted: String, found: String },
    /// A hook of the version that serves, not of the one that is deployed.
    #[error("{version}, which serves on: {source}")]
    Before { version: Box<VersionId>, source: Box<DeployError> },
    #[error("state cannot be saved before the swap: {0}")]
    Save(#[source] StoreError),
    #[error("its tables are not committed, since the choice of it cannot be kept: {0}")]
    Unkept(String),
    #[error(
        "which version is chosen is open until the next start, since a commit for a refused choice could not be taken back"
    )]
    InDoubt,
    /// The store of a table that the version which serves has, also if none of its own.
    #[error(transparent)]
    Unsound(TableError),
    #[error("saved state cannot be used: {0}")]
    Restore(#[source] StoreError),
    #[error("{calls} calls and {} leases{} did not end within {} ms", holders.len(), names(holders), waited.as_millis())]
    Quiesce { calls: usize, holders: Vec<Holder>, waited: Duration },
    /// Beside calls, so that nobody waited for it.
    #[error(
        "tried beside calls, export took {} ms and migration {} ms, and a hand-over may take {} ms of the gate_timeout, {} ms",
        export.as_millis(), migrate.as_millis(), budget.as_millis(), gate_timeout.as_millis()
    )]
    OverBudget { export: Duration, migrate: Duration, budget: Duration, gate_timeout: Duration },
    #[error("the stores of its tables did not take the commit behind the gate within {} ms", waited.as_millis())]
    SlowStore { waited: Duration },
    #[error(transparent)]
    Gate(#[from] GateRefused),
}

fn names(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let mut labels: Vec<&str> = holders.iter().map(|holder| holder.label).collect();
    labels.sort_unstable();
    labels.dedup();
    format!(" ({})", labels.join(", "))
}

impl DeployError {
    /// The stage at which it happened.
    pub(crate) fn stage(&self) -> Stage {
        use crate::load::Hook;
        match self {
            DeployError::Stage(_) | DeployError::Patch(_) | DeployError::Replaced { .. } => Stage::Stage,
            DeployError::Inspect(_) | DeployError::Trust(_) => Stage::Inspect,
            DeployError::Rehearsal(_) => Stage::Rehearse,
            DeployError::Load(_)
            | DeployError::Identity { .. }
            | DeployError::Exhausted { .. }
            | DeployError::Residents { .. } => Stage::Load,
            DeployError::Before { .. } => Stage::HandOver,
            DeployError::Hook(error) => match error.hook {
                Hook::Steps | Hook::Prepare => Stage::Prepare,
                Hook::Activate | Hook::SelfTest => Stage::Activate,
                _ => Stage::HandOver,
            },
            DeployError::Model { .. }
            | DeployError::NoPath(_)
            | DeployError::Rows { .. }
            | DeployError::Unswept { .. }
            | DeployError::BrokenStep { .. }
            | DeployError::Save(_)
            | DeployError::Restore(_)
            | DeployError::Quiesce { .. }
            | DeployError::OverBudget { .. }
            | DeployError::Unsound(_)
            | DeployError::SlowStore { .. } => Stage::HandOver,
            DeployError::Gate(_)
            | DeployError::SharedState
            | DeployError::OneWay { .. }
            | DeployError::Unkept(_)
            | DeployError::InDoubt => Stage::Publish,
            DeployError::TableStore(_) | DeployError::Thread(_) | DeployError::Panicked => Stage::Prepare,
            DeployError::TablesInUse | DeployError::Overtaken => Stage::HandOver,
            DeployError::Open(_) | DeployError::Table(_) => Stage::Activate,
        }
    }
}

impl Failure for DeployError {
    fn code(&self) -> Code {
        match self {
            DeployError::Stage(error) => error.code(),
            DeployError::Inspect(error) => error.code(),
            DeployError::Trust(error) => error.code(),
            DeployError::Rehearsal(error) => error.code(),
            DeployError::Patch(_) => Code::StageStore,
            DeployError::Load(error) => error.code(),
            DeployError::Replaced { .. } => Code::StageChanging,
            DeployError::Identity { .. } => Code::AbiIdentityMismatch,
            DeployError::Hook(error) => error.code(),
            DeployError::Before { source, .. } => source.code(),
            DeployError::Exhausted { .. } | DeployError::Residents { .. } => Code::UnloadCapReached,
            DeployError::Model { .. } => Code::StateModelChanged,
            DeployError::NoPath(error) => error.code(),
            DeployError::Rows { .. } => Code::StateNoPath,
            DeployError::Unswept { .. } => Code::TableUnswept,
            DeployError::TablesInUse | DeployError::Overtaken => Code::GateBusy,
            DeployError::Open(error) => error.code(),
            DeployError::Table(error) | DeployError::Unsound(error) => error.code(),
            DeployError::TableStore(error) => error.code(),
            DeployError::Thread(_) | DeployError::Panicked => Code::HostThread,
            DeployError::BrokenStep { .. } => Code::StateMigrate,
            DeployError::Save(error) | DeployError::Restore(error) => error.code(),
            DeployError::Unkept(_) => Code::StateStore,
            DeployError::InDoubt => Code::TableStoreFailed,
            DeployError::Quiesce { .. } => Code::GateQuiesceTimeout,
            DeployError::OverBudget { .. } | DeployError::SlowStore { .. } => Code::GateBudget,
            DeployError::Gate(error) => error.code(),
            DeployError::SharedState | DeployError::OneWay { .. } => Code::RouteSharedState,
        }
    }
}
