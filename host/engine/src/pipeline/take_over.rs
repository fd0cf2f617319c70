//! From a prepared version to the one that serves.
//!
//! Without state to hand over: restore what is on the disk, activate,
//! self-test, store the pointer; nobody waits. With state,
//! [`hand_over`](super::hand_over). Storing the pointer is the point of no
//! return: until then every failure leaves the old version serving.

use super::{
    error::DeployError,
    gate_commit::commit_behind_gate,
    hand_over::{Commit, hand_over, pass_gate},
    progress::{Party, Progress},
    saved::{Saved, from_disk, from_disk_as_wanted, restore_and_activate},
    state::not_entered,
    tables::{self, Passage, Reach},
    taken::{DEPLOYMENT, Means, Refused, Taken, TakenState, enter},
    worker::Worker,
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Holder, Lease, Refused as NotEntered, Version},
    load::Hook,
    service::{Entry, Serving},
};
use std::time::{Duration, Instant};

/// Makes `version` the one that serves. What it would meet in its tables was
/// brought within its reach, but for what is lost.
pub(crate) fn take_over<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    Reach { descent, mut losses }: Reach<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    let new = version.payload();
    let passage = tables::passage(new, descent, &losses);
    // State that the version before does not have would be left behind.
    let may_go_back = !new.manifest().state.snapshot && passage == Passage::Open;
    let old = match entry.slot.lease(Holder::new(DEPLOYMENT, monotonic_ns())) {
        Ok(old) => Some(old),
        Err(NotEntered::NotActive) => None,
        Err(refused) => return Err(Refused::new(version, not_entered(Hook::Activate, refused))),
    };
    let has_state = old.as_ref().map_or(Ok(false), |old| has_state(old, &version));
    let allow_loss = means.policy.allow_loss;
    // Nobody writes behind the gate: what is lost is known there and not before.
    let mut commit_begun = false;
    let mut commit = |new: &Serving, until: Instant| {
        if passage == Passage::Gated {
            commit_begun = true;
            losses = commit_behind_gate(new.tables(), descent, allow_loss, until)?;
        }
        Ok(())
    };
    let taken = match (has_state, old) {
        (Err(error), _) => Err(Refused::new(version, error)),
        (Ok(true), Some(old)) => hand_over(entry, version, old, &mut commit, means),
        (Ok(false), Some(old)) if passage == Passage::Gated => {
            pass_gate_with_saved(entry, version, old, &mut commit, means)
        }
        (Ok(_), old) => {
            drop(old);
            first_start_or_stateless(entry, version, means)
        }
    };
    let taken = taken.map_err(|refused| Refused { commit_begun, ..refused })?;
    Ok(Taken { losses, may_go_back, ..taken })
}

/// Whether state goes from one version to the other.
fn has_state(old: &Serving, new: &Version<Serving>) -> Result<bool, DeployError> {
    let (old, new) = (old.manifest().state, new.payload().manifest().state);
    match (old.snapshot, new.snapshot) {
        (true, false) => Err(DeployError::Model { from: "snapshot", to: "stateless" }),
        (true, true) => Ok(true),
        (false, _) => Ok(false),
    }
}

/// No state comes from a serving version: state from the disk, activation,
/// self-test, the pointer.
fn first_start_or_stateless<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    let saved = match saved_state(&version, means) {
        Ok(saved) => saved,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let state = saved.as_ref().map(Saved::as_taken);
    let begun = Instant::now();
    let version = restored_and_active(version, saved, means.worker)?;
    publish(entry, version, begun.elapsed(), state)
}

/// The same with callers waiting at the gate, because of what is in tables.
fn pass_gate_with_saved<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    commit: &mut Commit<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    match saved_state(&version, means) {
        Ok(saved) => pass_gate(entry, version, old, saved, commit, means),
        Err(error) => Err(Refused::new(version, error)),
    }
}

/// Makes `version` able to serve beside the one that does.
pub(crate) fn activate_beside(
    version: Version<Serving>,
    worker: &mut Worker,
) -> Result<Version<Serving>, Refused> {
    restored_and_active(version, None, worker)
}

fn restored_and_active(
    version: Version<Serving>,
    saved: Option<Saved>,
    worker: &mut Worker,
) -> Result<Version<Serving>, Refused> {
    let lease = version.lease(Holder::new(DEPLOYMENT, monotonic_ns()));
    let progress = Progress::at(Party::Candidate, Hook::Restore);
    let inside = progress.clone();
    let entered = worker.run(&progress, move || {
        enter(&lease, Hook::Activate, |new| restore_and_activate(new, saved, &inside))
    });
    match entered {
        Ok(Ok(())) => Ok(version),
        Ok(Err(error)) => Err(Refused::new(version, error)),
        Err(overdue) => Err(Refused::overdue(version, overdue)),
    }
}

/// The newest saved state, or the one that is wanted, converted for `version`.
fn saved_state(version: &Version<Serving>, means: &mut Means<'_>) -> Result<Option<Saved>, DeployError> {
    let serving = version.payload();
    if !serving.manifest().state.snapshot {
        return Ok(None);
    }
    if let Some(wanted) = means.wanted.take() {
        return from_disk_as_wanted(version, wanted, means);
    }
    let lookup = means.store.latest(serving.id().name.as_str()).map_err(DeployError::Restore)?;
    means.problems.extend(lookup.problems);
    lookup.found.map_or(Ok(None), |found| from_disk(version, found, means))
}

fn publish(
    entry: &Entry,
    version: Version<Serving>,
    activate: Duration,
    state: Option<TakenState>,
) -> Result<Taken<'_>, Refused> {
    let change = entry.change();
    let begun = Instant::now();
    match entry.slot.publish(version) {
        Ok(old) => {
            let publish = begun.elapsed();
            let in_flight = old.as_ref().map_or(0, |old| {
                old.settle();
                old.in_flight().stack
            });
            let barrier = begun.elapsed() - publish;
            Ok(Taken { in_flight, activate, barrier, state, ..Taken::now(change, old, publish) })
        }
        Err(refused) => Err(Refused::new(refused.version, refused.reason)),
    }
}
