//! State from the disk, made fit for a version that does not serve yet.
//!
//! Beside calls, whatever its outcome: a snapshot does not change, so that
//! nobody need wait for its conversion.

use super::{
    error::DeployError,
    progress::{Party, Progress},
    state::{self, Converted, Payload},
    taken::{DEPLOYMENT, Means, TakenState, activate, enter},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Version},
    load::Hook,
    service::Serving,
    state::{
        chain::{self, Instead, NoPath, Plan},
        store::Found,
    },
};

/// State from the disk, with the schema that it was saved in.
pub(super) struct Saved {
    pub(super) from: u32,
    pub(super) payload: Payload,
}

impl Saved {
    /// What is said of it when a version has it.
    pub(super) fn as_taken(&self) -> TakenState {
        TakenState {
            schemas: (self.from, self.payload.schema),
            bytes: self.payload.bytes.len() as u64,
            loss: self.payload.loss.clone(),
            snapshot: self.payload.snapshot,
            before: None,
            wanted: None,
        }
    }
}

/// Gives a version its state, if there is one, and activates it.
pub(super) fn restore_and_activate(
    new: &Serving,
    saved: Option<Saved>,
    progress: &Progress,
) -> Result<(), DeployError> {
    if let Some(Payload { schema, bytes, .. }) = saved.map(|saved| saved.payload) {
        new.restore(schema, &bytes)?;
    }
    activate(new, progress)
}

/// The newest snapshot's state, converted for `version`. An older snapshot may
/// stand in for it where the policy allows that.
pub(super) fn from_disk(
    version: &Version<Serving>,
    found: Found,
    means: &mut Means<'_>,
) -> Result<Option<Saved>, DeployError> {
    let serving = version.payload();
    let from = found.envelope.schema_version;
    let name = serving.id().name.as_str();
    let (plan, older) = state::plan(name, from, serving, serving.steps(), means.policy, means.store)?;
    match older {
        Some(payload) => Ok(Some(Saved { from, payload })),
        None => converted(version, &plan, found, means),
    }
}

/// The state of a snapshot that was asked for, converted for `version`. No other
/// stands in for it.
pub(super) fn from_disk_as_wanted(
    version: &Version<Serving>,
    found: Found,
    means: &mut Means<'_>,
) -> Result<Option<Saved>, DeployError> {
    let serving = version.payload();
    let plan = chain::plan(&chain::Request {
        from: found.envelope.schema_version,
        to: serving.manifest().schema_version,
        steps: serving.steps(),
        policy: means.policy.migrate,
        has_older_snapshot: false,
        allow_loss: false,
    });
    let plan = plan.map_err(|refused| NoPath { instead: Instead::AskedFor, ..refused })?;
    let loss = format!("all that was written since {} ms after 1970", found.envelope.taken_at_unix_ms);
    let saved = converted(version, &plan, found, means)?;
    Ok(saved.map(|saved| Saved { payload: Payload { loss, ..saved.payload }, ..saved }))
}

fn converted(
    version: &Version<Serving>,
    plan: &Plan,
    found: Found,
    means: &mut Means<'_>,
) -> Result<Option<Saved>, DeployError> {
    let (from, to) = (found.envelope.schema_version, version.payload().manifest().schema_version);
    let lease = version.lease(Holder::new(DEPLOYMENT, monotonic_ns()));
    let (plan, bytes, bytes_max) = (plan.clone(), found.envelope.payload, means.policy.bytes_max);
    let (converted, bytes) =
        means.worker.run(&Progress::at(Party::Candidate, Hook::Migrate), move || {
            let convert = |new: &Serving| state::convert(new, &plan, from, to, &bytes, bytes_max);
            enter(&lease, Hook::Migrate, convert).map(|converted| (converted, bytes))
        })??;
    let (schema, bytes) = match converted {
        Converted::AsItIs(schema) => (schema, bytes),
        Converted::Bytes(schema, bytes) => (schema, bytes),
        Converted::Left => return Ok(None),
    };
    let snapshot = Some(found.snapshot.sequence());
    Ok(Some(Saved { from, payload: Payload { schema, bytes, loss: String::new(), snapshot } }))
}
