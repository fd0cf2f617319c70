//! The gate of a hand-over: closed, waited behind, and opened, for a snapshot that
//! goes over and for rows that stay where they are.
//!
//! Behind the closed gate, after the last call on the old version has returned,
//! state is [transferred](super::transfer), and only then is the pointer stored.
//! Until then every failure opens the gate on the old version. All of it has
//! one budget, below the time that callers wait before they are refused: a
//! hand-over that fails is a pause to them and nothing else. Behind the gate is
//! also where tables are committed whose rows the old version could not read, and
//! a store that does not take that in time refuses the version.

use super::{
    error::DeployError,
    poll::poll_until,
    progress::{Party, Progress},
    saved::{Saved, restore_and_activate},
    taken::{DEPLOYMENT, HAND_OVER, Means, PauseParts, Refused, Taken, TakenState, enter},
    transfer::{Failed, Transfer},
};
use crate::{
    clock::monotonic_ns,
    dispatch::{Closed, Holder, Lease, Sealed, Version},
    load::Hook,
    service::{Entry, Serving},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a sealed gate is waited at for calls that slipped in. What they
/// call themselves waits at it, so it must be opened to them again soon.
const SEALED: Duration = Duration::from_millis(1);

/// Commits the tables of a version that is about to serve, where that is due, in
/// the time that is left.
pub(super) type Commit<'a> = dyn FnMut(&Serving, Instant) -> Result<(), DeployError> + 'a;

pub(super) fn hand_over<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    commit: &mut Commit<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    // Everything that can be known, fail or take time before the gate closes
    // does so here, beside calls.
    if let Err(error) = is_worth_closing(&old, means.quiesce_timeout) {
        return Err(Refused::new(version, error));
    }
    // What is left is for waking those who wait.
    let budget = means.gate_timeout / 10 * 9;
    let transfer = match Transfer::plan(entry, old, &version, budget, means) {
        Ok(transfer) => transfer,
        Err(Failed { error, hangs, .. }) => return Err(Refused { hangs, ..Refused::new(version, *error) }),
    };
    means.worker.stand_by();
    let begun = Instant::now();
    let closed = match entry.slot.close() {
        Ok(closed) => closed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let (barrier, in_flight) = (begun.elapsed(), closed.in_flight().stack);
    let sealed = match quiesce(closed, means.quiesce_timeout.min(budget)) {
        Ok(sealed) => sealed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let quiesce = begun.elapsed() - barrier;
    let progress = Progress::at(Party::Before, Hook::Freeze).within(begun, budget);
    let handed = transfer.run(&sealed, &version, &progress, means).and_then(|handed| {
        commit(version.payload(), begun + budget)?;
        Ok(handed)
    });
    match handed {
        Ok((state, parts)) => {
            let parts = PauseParts { quiesce, ..parts };
            Ok(Behind { begun, barrier, in_flight, parts }.open(entry, sealed, version, Some(state)))
        }
        Err(failed) => {
            let old = sealed.lease(Holder::new(HAND_OVER, monotonic_ns()));
            sealed.reopen();
            Err(failed.refuse(version, old, means))
        }
    }
}

/// Makes `version` the one that serves when the last call on the version before
/// has returned, and hands nothing over: rows of tables stay where they are, but
/// one of the two could not read what the other writes. Its tables are committed
/// with it. State that it is to begin with was `saved`.
pub(super) fn pass_gate<'a>(
    entry: &'a Entry,
    version: Version<Serving>,
    old: Lease<Serving>,
    saved: Option<Saved>,
    commit: &mut Commit<'_>,
    means: &mut Means<'_>,
) -> Result<Taken<'a>, Refused> {
    if let Err(error) = is_worth_closing(&old, means.quiesce_timeout) {
        return Err(Refused::new(version, error));
    }
    drop(old);
    let budget = means.gate_timeout / 10 * 9;
    means.worker.stand_by();
    let begun = Instant::now();
    let closed = match entry.slot.close() {
        Ok(closed) => closed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let (barrier, in_flight) = (begun.elapsed(), closed.in_flight().stack);
    let sealed = match quiesce(closed, means.quiesce_timeout.min(budget)) {
        Ok(sealed) => sealed,
        Err(error) => return Err(Refused::new(version, error)),
    };
    let parts = PauseParts { quiesce: begun.elapsed() - barrier, ..PauseParts::default() };
    let state = saved.as_ref().map(Saved::as_taken);
    let progress = Progress::at(Party::Candidate, Hook::Restore).within(begun, budget);
    let (lease, inside) = (version.lease(Holder::new(HAND_OVER, monotonic_ns())), progress.clone());
    let activated = means.worker.run(&progress, move || {
        enter(&lease, Hook::Activate, |new| restore_and_activate(new, saved, &inside))
    });
    match activated {
        Ok(Ok(())) => match commit(version.payload(), begun + budget) {
            Ok(()) => Ok(Behind { begun, barrier, in_flight, parts }.open(entry, sealed, version, state)),
            Err(error) => {
                sealed.reopen();
                Err(Refused::new(version, error))
            }
        },
        Ok(Err(error)) => {
            sealed.reopen();
            Err(Refused::new(version, error))
        }
        Err(overdue) => {
            sealed.reopen();
            Err(Refused::overdue(version, overdue))
        }
    }
}

/// How it came that nothing runs behind the gate.
struct Behind {
    begun: Instant,
    barrier: Duration,
    in_flight: usize,
    parts: PauseParts,
}

impl Behind {
    /// Stores the pointer and opens the gate.
    fn open<'a>(
        self,
        entry: &'a Entry,
        sealed: Sealed<'_, Serving>,
        version: Version<Serving>,
        state: Option<TakenState>,
    ) -> Taken<'a> {
        let Behind { begun, barrier, in_flight, parts } = self;
        let change = entry.change();
        let storing = Instant::now();
        let (mut publish, mut pause) = (Duration::ZERO, Duration::ZERO);
        let old = sealed.open_then(version, || (publish, pause) = (storing.elapsed(), begun.elapsed()));
        // Those who waited go first, also on this core.
        thread::yield_now();
        Taken { pause, parts, barrier, in_flight, state, ..Taken::now(change, Some(old), publish) }
    }
}

/// Whether calls can be expected to end in time: what is held for longer than
/// that already, or by a hook of an earlier hand-over that has not returned,
/// would only make callers wait for nothing.
fn is_worth_closing(old: &Lease<Serving>, quiesce_timeout: Duration) -> Result<(), DeployError> {
    let now = monotonic_ns();
    let is_long = |holder: &Holder| {
        holder.label == HAND_OVER || u128::from(now.saturating_sub(holder.since)) > quiesce_timeout.as_nanos()
    };
    let others = old.holders().into_iter().filter(|holder| holder.label != DEPLOYMENT);
    let holders: Vec<Holder> = others.filter(is_long).collect();
    if holders.is_empty() {
        return Ok(());
    }
    Err(DeployError::Quiesce { calls: 0, holders, waited: quiesce_timeout })
}

/// Waits until nothing runs behind the gate, and lets nothing in.
fn quiesce(mut closed: Closed<'_, Serving>, timeout: Duration) -> Result<Sealed<'_, Serving>, DeployError> {
    let begun = Instant::now();
    while poll_until(timeout.saturating_sub(begun.elapsed()), || closed.is_drained()) {
        let sealed = closed.seal();
        // A call of a chain in flight may have slipped in before the seal.
        if poll_until(SEALED, || sealed.is_drained()) {
            return Ok(sealed);
        }
        closed = sealed.unseal();
        if begun.elapsed() >= timeout {
            break;
        }
    }
    let (calls, holders) = (closed.in_flight().stack, closed.holders());
    closed.reopen();
    Err(DeployError::Quiesce { calls, holders, waited: timeout })
}
