//! State on its way from one version to the next, and to the disk.

use super::{
    error::DeployError,
    progress::{Party, Progress},
    worker::Worker,
};
use crate::{
    dispatch::Lease,
    load::{Hook, HookError, HookErrorKind, StepInfo},
    service::Serving,
    state::{
        chain::{self, MigratePolicy, Plan},
        envelope::Envelope,
        store::{Saved, SnapshotStore, StoreError},
    },
};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a deployment may do to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StatePolicy {
    pub(crate) migrate: MigratePolicy,
    /// A way back without a step may take an older snapshot.
    pub(crate) allow_loss: bool,
    pub(crate) bytes_max: usize,
}

/// State with its schema version, ready to be restored.
pub(super) struct Payload {
    pub(super) schema: u32,
    pub(super) bytes: Vec<u8>,
    /// What is lost by taking it, in words; empty for nothing.
    pub(super) loss: String,
    /// The snapshot that it came from; `None` for what a version exported.
    pub(super) snapshot: Option<u64>,
}

/// What became of state on its way.
pub(super) enum Converted {
    /// It goes as it is, and as of this schema.
    AsItIs(u32),
    /// It is of this schema now, and these are its bytes.
    Bytes(u32, Vec<u8>),
    /// It goes no further.
    Left,
}

/// Plans the way of state of schema `from` into `to`, and takes an older
/// snapshot from the store where the plan says so.
pub(super) fn plan(
    plugin: &str,
    from: u32,
    to: &Serving,
    steps: &[StepInfo],
    policy: StatePolicy,
    store: &SnapshotStore,
) -> Result<(Plan, Option<Payload>), DeployError> {
    let wanted = to.manifest().schema_version;
    let older = if from > wanted {
        store.latest_of_schema(plugin, wanted).map_err(DeployError::Restore)?.found
    } else {
        None
    };
    let plan = chain::plan(&chain::Request {
        from,
        to: wanted,
        steps,
        policy: policy.migrate,
        has_older_snapshot: older.is_some(),
        allow_loss: policy.allow_loss,
    })?;
    let payload = match (&plan, older) {
        (Plan::SnapshotBefore { .. }, Some(found)) => {
            let age = format!("all that was written since {} ms after 1970", found.envelope.taken_at_unix_ms);
            let snapshot = Some(found.snapshot.sequence());
            Some(Payload { schema: wanted, bytes: found.envelope.payload, loss: age, snapshot })
        }
        _ => None,
    };
    Ok((plan, payload))
}

/// Converts `bytes` as planned. `converter` is the version with the newer
/// schema. Runs on the worker's thread, inside `converter`.
pub(super) fn convert(
    converter: &Serving,
    plan: &Plan,
    from: u32,
    to: u32,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Converted, DeployError> {
    match plan {
        Plan::Unchanged => Ok(Converted::AsItIs(from)),
        // The bytes are what they were; the version is told its own number.
        Plan::Preserve => Ok(Converted::AsItIs(to)),
        Plan::Steps(steps) => {
            // All at once, as with callers waiting. A plugin from before 1.1 was never
            // to be asked for that, and may answer anything.
            if converter.loaded().restores_earlier_schemas()
                && let Some(bytes) = converter.loaded().migrate(from, to, bytes, bytes_max)?
            {
                return Ok(Converted::Bytes(to, bytes));
            }
            let mut converted = None;
            for step in steps {
                let (from, to) = step.versions();
                let bytes = converted.as_deref().unwrap_or(bytes);
                let next = converter.loaded().migrate(from, to, bytes, bytes_max)?;
                converted = Some(next.ok_or(DeployError::BrokenStep { from, to })?);
            }
            Ok(converted.map_or(Converted::AsItIs(from), |bytes| Converted::Bytes(to, bytes)))
        }
        Plan::Reset { .. } | Plan::SnapshotBefore { .. } => Ok(Converted::Left),
    }
}

/// The state of a serving version as it is now, beside its calls.
pub(crate) fn snapshot_of(
    lease: Lease<Serving>,
    bytes_max: usize,
    worker: &mut Worker,
) -> Result<Envelope, HookError> {
    let progress = Progress::at(Party::Before, Hook::Export);
    worker.run(&progress, move || {
        let exported = lease.enter(|entered| {
            let serving = entered.payload();
            serving.export(bytes_max).map(|bytes| envelope(serving, bytes))
        });
        exported.unwrap_or_else(|refused| Err(not_entered(Hook::Export, refused)))
    })?
}

/// Saves an envelope, also if the newest snapshot holds the same.
pub(crate) fn save(store: &SnapshotStore, envelope: &Envelope) -> Result<Saved, StoreError> {
    store.save(envelope).inspect(|saved| warn_of(saved, envelope))
}

/// The same, unless the newest snapshot holds the same.
pub(crate) fn save_changed(store: &SnapshotStore, envelope: &Envelope) -> Result<Saved, StoreError> {
    store.save_changed(envelope).inspect(|saved| warn_of(saved, envelope))
}

fn warn_of(saved: &Saved, envelope: &Envelope) {
    for problem in &saved.problems {
        tracing::warn!(plugin = envelope.plugin, error = %problem, "an old snapshot stays behind");
    }
}

pub(super) fn envelope(serving: &Serving, payload: Vec<u8>) -> Envelope {
    Envelope {
        plugin: serving.id().name.to_string(),
        schema_version: serving.manifest().schema_version,
        plugin_version: serving.id().version.clone(),
        taken_at_unix_ms: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        payload,
    }
}

pub(super) fn not_entered(hook: Hook, refused: crate::dispatch::Refused) -> HookError {
    HookError { hook, kind: HookErrorKind::Host, reason: refused.to_string() }
}
