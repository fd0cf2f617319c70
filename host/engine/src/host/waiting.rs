//! Deployments that have begun and wait, for tables to be read or committed or for
//! rows to be within reach, and who waits for them in turn.
//!
//! Data only: the command loop takes them up again when their jobs are done.

use super::{job::Job, lock::DataLock, stored::Restored, sweeps::Swept, versions::Arrival};
use crate::{
    dispatch::{Share, Version},
    event::{FailureReport, StageTimes},
    id::{Digest, PluginName, VersionId},
    pipeline::{Candidate, Converting, DeployError, Descent, Loss},
    rehearse::{RehearsalError, Report, Upgrade},
    service::{Entry, Serving},
    state::store::Found,
    table::TableError,
    table_store::TableStoreError,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};
use tokio::sync::oneshot;

/// A version that could serve.
pub(super) struct Prepared {
    pub(super) entry: Arc<Entry>,
    pub(super) version: Version<Serving>,
    pub(super) stages: StageTimes,
    pub(super) noticed_ns: u64,
}

/// What is done before a version is begun with, which waits for it.
pub(super) struct First {
    pub(super) id: VersionId,
    pub(super) work: FirstWork,
    /// Who wants to try it then; none if it is to be deployed.
    pub(super) trial: Option<Trying>,
}

/// What that is.
pub(super) enum FirstWork {
    /// Its plugin's tables are being read.
    Load(Job<Result<Vec<String>, TableStoreError>>),
    /// It is being rehearsed.
    Rehearsal(Box<Rehearsing>),
}

impl FirstWork {
    pub(super) fn is_done(&self) -> bool {
        match self {
            FirstWork::Load(job) => job.is_done(),
            FirstWork::Rehearsal(rehearsing) => rehearsing.job.is_done(),
        }
    }
}

/// What a check takes, which is held on the thread of whoever asked for it.
pub(super) struct Checking {
    /// Whose copy is read meanwhile.
    pub(super) candidate: Candidate,
    pub(super) upgrade: Upgrade,
    /// Where it writes.
    pub(super) folder: PathBuf,
    /// Nobody clears the folder before.
    pub(super) lock: Arc<DataLock>,
}

/// A version is being rehearsed.
pub(super) struct Rehearsing {
    pub(super) job: Job<(Report, Result<(), RehearsalError>)>,
    /// Whose copy is read meanwhile.
    pub(super) candidate: Candidate,
    pub(super) arrival: Arrival,
    /// The file of the version that serves meanwhile.
    pub(super) against: Option<Digest>,
    /// The host ends.
    pub(super) stop: Arc<AtomicBool>,
}

/// Somebody waits for a trial.
pub(super) struct Trying {
    pub(super) share: Share,
    pub(super) done: Done,
}

/// Somebody waits for a snapshot to become the state of what serves.
pub(super) struct Restoring {
    pub(super) found: Found,
    pub(super) done: RestoreDone,
}

/// The tables of the version that serves are being committed.
pub(super) struct Committing {
    /// That version.
    pub(super) id: VersionId,
    pub(super) job: Job<Result<(), TableError>>,
    /// The version that uses them next, and cannot before.
    pub(super) next: Option<Next>,
}

/// A version that is prepared.
pub(super) struct Next {
    pub(super) id: VersionId,
    pub(super) prepared: Prepared,
    pub(super) then: Then,
}

/// What a version is prepared for.
pub(super) enum Then {
    Deploy,
    Try(Trying),
    Restore(Restoring),
}

/// A version that waits until rows are within its reach.
pub(super) struct Descending {
    pub(super) id: VersionId,
    pub(super) prepared: Prepared,
    pub(super) descent: Arc<Descent>,
    pub(super) work: DescentWork,
}

/// The thread that brings them there.
pub(super) struct DescentWork {
    /// What served when it began.
    pub(super) from: Option<VersionId>,
    pub(super) stop: Arc<AtomicBool>,
    /// The row that is being converted by that version.
    pub(super) converting: Arc<Converting>,
    pub(super) job: Job<Result<Vec<Loss>, DeployError>>,
}

/// How far descents are, by plugin.
#[derive(Debug, Default)]
pub(super) struct DescentProgress(Mutex<BTreeMap<PluginName, Vec<Swept>>>);

impl DescentProgress {
    /// The tables that are being gone down in, if that is under way.
    pub(super) fn of(&self, name: &PluginName) -> Option<Vec<Swept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn begin(&self, name: &PluginName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Vec::new());
    }

    pub(super) fn end(&self, name: &PluginName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Says how far a table is, unless the descent is over.
    pub(super) fn note(&self, name: &PluginName, now: Swept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tables) = all.get_mut(name) else { return };
        match tables.iter_mut().find(|known| known.table == now.table) {
            Some(known) => *known = now,
            None => tables.push(now),
        }
    }
}

/// Where the outcome of a choice goes.
pub(super) type Done = oneshot::Sender<Result<VersionId, FailureReport>>;

/// Where the outcome of restoring a snapshot goes.
pub(super) type RestoreDone = oneshot::Sender<Result<Restored, FailureReport>>;
