//! What every take-over needs, and what comes of it.

use super::{
    error::DeployError,
    progress::{Party, Progress},
    state::{StatePolicy, not_entered},
    worker::{Overdue, Worker},
};
use crate::{
    dispatch::{Lease, Retired, Version},
    event::StageTimes,
    load::Hook,
    service::{Change, Serving},
    state::{
        envelope::Envelope,
        store::{Found, SnapshotStore, StoreError},
    },
};
use std::time::Duration;

/// The leases that a deployment itself holds: on the version that serves, for
/// the snapshot before the gate closes.
pub(crate) const DEPLOYMENT: &str = "deployment";

/// The leases that a hand-over's own hooks hold.
pub(crate) const HAND_OVER: &str = "hand-over";

/// A version serves.
pub(crate) struct Taken<'a> {
    /// Held from before the pointer was stored.
    pub(crate) change: Change<'a>,
    /// The version before, to be unloaded.
    pub(crate) old: Option<Retired<Serving>>,
    /// Calls in flight on it when it was replaced, or when the gate closed.
    pub(crate) in_flight: usize,
    /// How long restoring from the disk, activation and self-test took beside
    /// calls; zero where the gate was closed for them.
    pub(crate) activate: Duration,
    /// How long the gate was closed.
    pub(crate) pause: Duration,
    /// What was done meanwhile.
    pub(crate) parts: PauseParts,
    /// How long storing the pointer took.
    pub(crate) publish: Duration,
    /// How long the barrier took that makes calls in flight visible: after the
    /// pointer was stored, or when the gate closed.
    pub(crate) barrier: Duration,
    /// The state that went over; `None` without state.
    pub(crate) state: Option<TakenState>,
    /// Rows of tables that the version does not see as they are.
    pub(crate) losses: Vec<Loss>,
    /// Whether the version before can serve again as it is.
    pub(crate) may_go_back: bool,
}

impl<'a> Taken<'a> {
    /// The pointer is stored, and nobody waited for it.
    pub(super) fn now(change: Change<'a>, old: Option<Retired<Serving>>, publish: Duration) -> Self {
        Taken {
            change,
            old,
            in_flight: 0,
            activate: Duration::ZERO,
            pause: Duration::ZERO,
            parts: PauseParts::default(),
            publish,
            barrier: Duration::ZERO,
            state: None,
            losses: Vec::new(),
            may_go_back: false,
        }
    }
}

/// How long the parts of a pause took that grow with what is handed over, or with
/// what callers do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PauseParts {
    /// Until calls in flight had ended.
    pub(crate) quiesce: Duration,
    /// Freezing and exporting.
    pub(crate) export: Duration,
    pub(crate) migrate: Duration,
    pub(crate) restore: Duration,
}

impl PauseParts {
    /// Adds them to what is told of a deployment.
    pub(crate) fn tell(&self, stages: &mut StageTimes) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        stages.quiesce_us = micros(self.quiesce);
        stages.export_us = micros(self.export);
        stages.migrate_us = micros(self.migrate);
        stages.restore_us = micros(self.restore);
    }
}

/// State that went from one version to the next, or from the disk.
pub(crate) struct TakenState {
    /// Schema version before and after.
    pub(crate) schemas: (u32, u32),
    pub(crate) bytes: u64,
    pub(crate) loss: String,
    /// The snapshot that it came from; `None` for the state of the version
    /// before.
    pub(crate) snapshot: Option<u64>,
    /// What the version before had; `None` at a first start.
    pub(crate) before: Option<Before>,
    /// What was restored in its place because that was asked for.
    pub(crate) wanted: Option<Envelope>,
}

/// The state of the version before.
pub(crate) struct Before {
    /// The snapshot of it that was taken beside calls.
    pub(crate) saved: u64,
    /// As it was behind the gate, after the last call.
    pub(crate) exported: Envelope,
}

/// Rows of a table that a version does not see as they are, because it is an
/// earlier one and nobody could turn them into what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) table: String,
    pub(crate) rows: u64,
}

/// A version was refused. It has to be unloaded.
pub(crate) struct Refused {
    pub(crate) error: Box<DeployError>,
    pub(crate) version: Version<Serving>,
    /// Its hook that has not returned; it uses the version until it does.
    pub(crate) hangs: Option<Hook>,
    /// A commit of its tables was begun: it may be on the disk, or get there yet.
    pub(crate) commit_begun: bool,
}

impl Refused {
    pub(super) fn new(version: Version<Serving>, error: impl Into<DeployError>) -> Self {
        Refused { error: Box::new(error.into()), version, hangs: None, commit_begun: false }
    }

    pub(super) fn overdue<T>(version: Version<Serving>, overdue: Overdue<T>) -> Self {
        let hangs = overdue.hanging_hook();
        Refused { error: Box::new(overdue.into()), version, hangs, commit_begun: false }
    }
}

/// What a take-over may use.
pub(crate) struct Means<'a> {
    pub(crate) worker: &'a mut Worker,
    pub(crate) store: &'a SnapshotStore,
    pub(crate) policy: StatePolicy,
    /// The snapshot to be restored instead of what the version before has, or
    /// what the newest one holds.
    pub(crate) wanted: Option<Found>,
    /// How long a hand-over waits for calls in flight.
    pub(crate) quiesce_timeout: Duration,
    /// How long callers wait at the gate before they are refused.
    pub(crate) gate_timeout: Duration,
    /// What was wrong with saved state that was passed over; added to.
    pub(crate) problems: &'a mut Vec<StoreError>,
}

pub(super) fn activate(new: &Serving, progress: &Progress) -> Result<(), DeployError> {
    progress.enter(Party::Candidate, Hook::Activate)?;
    new.tables().activate()?;
    // A disk may have been waited for, longer than anybody waits for this.
    progress.enter(Party::Candidate, Hook::Activate)?;
    new.hook(Hook::Activate)?;
    progress.enter(Party::Candidate, Hook::SelfTest)?;
    Ok(new.hook(Hook::SelfTest)?)
}

/// Runs `body` inside the leased version, so that this thread is known to have
/// run its code.
pub(super) fn enter<R>(
    lease: &Lease<Serving>,
    hook: Hook,
    body: impl FnOnce(&Serving) -> Result<R, DeployError>,
) -> Result<R, DeployError> {
    lease
        .enter(|entered| body(entered.payload()))
        .unwrap_or_else(|refused| Err(not_entered(hook, refused).into()))
}
