//! The gate: handing state from one version to the next without losing an
//! update and without refusing a call.
//!
//! [`Slot::close`] → wait until drained → [`Closed::seal`] → check once more →
//! take the state out → [`Sealed::open`] with the new version, or back.
//!
//! A closed gate is a published pointer like any other, so an open one costs
//! callers nothing. Root calls wait at it. Calls that are caused by a call in
//! flight must not wait, or that call would never end: they pass and enter the
//! version that their chain is in. Sealing ends that, so that "drained" can be
//! said for certain: reading many hazards takes time, and a chain can move
//! from a thread not yet read to one already read.
//!
//! The gate moves nothing itself and decides nothing: how long to wait for a
//! drain is the engine's business.
//!
//! long: closing, sealing, opening and waiting are one protocol, under one lock.

use super::barrier::{HeavyOnce, Symmetric};
use super::chain;
use super::lease::{Holder, Lease};
use super::record::{MAX_CHAIN_DEPTH, ThreadRecord};
use super::retire::{InFlight, Retired};
use super::route::Route;
use super::slot::{ABSENT, CLOSED, Control, Gate, Refused, SPLIT, Slot, marker, protect};
use super::sync::{MutexGuard, Ordering, lock, wait_while};
use super::version::{Header, Owned, Payload, Version};
use crate::failure::{Code, Failure};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::{Poll, Waker};

/// Why a slot cannot be closed or withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GateRefused {
    /// There is no version.
    #[error("no version is active")]
    NotActive,
    /// Its gate is closed already.
    #[error("the gate is held by a hand-over")]
    Busy,
    /// Two versions share its calls.
    #[error("two versions share the calls")]
    Split,
}

impl Failure for GateRefused {
    fn code(&self) -> Code {
        match self {
            GateRefused::NotActive => Code::CallNotActive,
            GateRefused::Busy => Code::GateBusy,
            GateRefused::Split => Code::RouteSplit,
        }
    }
}

/// A gate that only calls of chains in flight pass. Dropping it opens the gate
/// on the version that was live.
#[must_use = "dropping it opens the gate again"]
pub struct Closed<'s, P: Payload> {
    held: Held<'s, P>,
}

/// A gate that no call passes. Dropping it opens the gate on the version that
/// was live.
#[must_use = "dropping it opens the gate again"]
pub struct Sealed<'s, P: Payload> {
    held: Held<'s, P>,
}

impl<P: Payload> Slot<P> {
    /// Closes the gate: calls that begin wait, those in flight and what they
    /// cause go on.
    ///
    /// # Errors
    /// [`GateRefused`], if the slot has no version, or is closed or split
    /// already.
    pub fn close(&self) -> Result<Closed<'_, P>, GateRefused> {
        let mut control = lock(&self.control);
        control.is_busy()?;
        let version = control.version.as_ref().ok_or(GateRefused::NotActive)?;
        let version = version.alias();
        control.gate = Gate::Closed;
        // Partner: `protect`, as in `replace`.
        self.live.swap(marker(&CLOSED), Ordering::AcqRel);
        drop(control);
        Ok(Closed { held: Held { slot: self, version, barrier: HeavyOnce::issue() } })
    }
}

impl<'s, P: Payload> Closed<'s, P> {
    /// What still runs on the version. More may join while the gate is not
    /// sealed.
    pub fn in_flight(&self) -> InFlight {
        self.held.in_flight()
    }

    /// Whether it is worth sealing: nothing was seen to run. Cheap enough to
    /// poll.
    pub fn is_drained(&self) -> bool {
        self.held.is_drained()
    }

    /// Who holds leases on the version, those to [look](Slot::look) at it among
    /// them.
    pub fn holders(&self) -> Vec<Holder> {
        self.held.version.holders()
    }

    /// Lets nobody pass any more, chains in flight included.
    pub fn seal(self) -> Sealed<'s, P> {
        // Who passed stored its hazard under this lock, so no further barrier
        // is needed to see it.
        lock(&self.held.slot.control).gate = Gate::Sealed;
        Sealed { held: self.held }
    }

    /// Opens the gate on the version that was live.
    pub fn reopen(self) {}
}

impl<'s, P: Payload> Sealed<'s, P> {
    /// What still runs on the version; it only ever gets less, but for leases
    /// taken [here](Self::lease) or to [look](Slot::look).
    pub fn in_flight(&self) -> InFlight {
        self.held.in_flight()
    }

    /// Whether every call on the version has returned and every lease is gone:
    /// from true on, nothing runs in it but what [enters](Lease::enter) leases
    /// taken [here](Self::lease). Those to [look](Slot::look) may come and go,
    /// and read what is fixed about a version.
    pub fn is_drained(&self) -> bool {
        self.held.is_drained()
    }

    /// Who holds leases on the version, those to [look](Slot::look) at it among
    /// them.
    pub fn holders(&self) -> Vec<Holder> {
        self.held.version.holders()
    }

    /// A lease for the hand-over's own hooks, like export, which run on
    /// threads of the engine.
    pub fn lease(&self, holder: Holder) -> Lease<P> {
        self.held.version.lease(holder)
    }

    /// Publishes `version`, wakes all that wait, and returns the version that
    /// was live.
    pub fn open(self, version: Version<P>) -> Retired<P> {
        self.open_then(version, || ())
    }

    /// [`open`](Self::open), with `opened` called when the gate is open and
    /// nobody is awake yet: who wakes them may lose its core to them. It runs
    /// under the slot's lock, so it must be brief.
    pub fn open_then(self, version: Version<P>, opened: impl FnOnce()) -> Retired<P> {
        let Sealed { held } = self;
        let (slot, barrier) = (held.slot, held.barrier.same());
        let mut control = lock(&slot.control);
        let old = slot.replace(&mut control, Some(version.0)).expect("a closed gate keeps its version");
        // From here on there is nothing to reopen, whatever follows.
        std::mem::forget(held);
        opened();
        slot.let_in(control);
        // The live pointer left the old version when the gate closed, so the
        // barrier of that time serves.
        Retired::new(old, barrier)
    }

    /// Lets calls of chains in flight pass again: one of them was in before the
    /// seal, and may be waiting for another.
    pub fn unseal(self) -> Closed<'s, P> {
        let slot = self.held.slot;
        let mut control = lock(&slot.control);
        control.gate = Gate::Closed;
        // Those that wait look whether they may pass now.
        slot.rouse(control);
        Closed { held: self.held }
    }

    /// Opens the gate on the version that was live.
    pub fn reopen(self) {}
}

/// A task's place among those that wait at a slot's gate: what it gives to
/// each [`Slot::poll_lease`], and at last, if it ends before it got its lease,
/// to [`Slot::leave_gate`]. It belongs to one slot.
#[derive(Debug, Default)]
pub struct GatePlace(Option<NonZeroU64>);

/// Those that wait at a gate, by place.
#[derive(Debug, Default)]
pub(super) struct Places {
    last: u64,
    wakers: BTreeMap<NonZeroU64, Waker>,
}

impl Places {
    pub(super) const fn new() -> Self {
        Places { last: 0, wakers: BTreeMap::new() }
    }

    /// Puts the waker into the place, and gives back the one that was there.
    fn take(&mut self, place: &mut GatePlace, waker: Waker) -> Option<Waker> {
        let key = *place.0.get_or_insert_with(|| {
            self.last += 1;
            NonZeroU64::new(self.last).expect("2^64 calls are not made")
        });
        self.wakers.insert(key, waker)
    }
}

/// How a call waits at a gate.
pub(super) enum Waiter<'a> {
    /// The thread sleeps, up to the slot's timeout.
    Block,
    /// The task is woken.
    Task(&'a Waker, &'a mut GatePlace),
}

impl<P: Payload> Slot<P> {
    /// Waits, if it must, until this call may enter. Then the hazard at `depth`,
    /// the top of this thread's stack, holds the version that it enters, which
    /// is no marker.
    pub(super) fn admit(
        &self,
        record: &'static ThreadRecord,
        depth: usize,
        mut route: Route<'_>,
        mut waiter: Waiter<'_>,
    ) -> Poll<Result<NonNull<Header>, Refused>> {
        if depth >= MAX_CHAIN_DEPTH {
            return Poll::Ready(Err(Refused::Depth));
        }
        record.settle();
        loop {
            // SAFETY: in bounds as just checked, and nothing was pushed.
            let Some(header) = unsafe { protect::<Symmetric>(&self.live, record, depth) }.header() else {
                continue;
            };
            let header = if header.as_ptr() == marker(&SPLIT) {
                // Chosen once: a sequence takes one step for a call.
                let arm = self.table.choose(route, record);
                route = Route::Arm(arm);
                // SAFETY: as above.
                match unsafe { protect::<Symmetric>(self.table.arm(arm), record, depth) }.header() {
                    Some(header) if header.as_ptr() != marker(&ABSENT) => header,
                    // The split has just ended.
                    _ => continue,
                }
            } else {
                header
            };
            // SAFETY: validated, or a static.
            if !unsafe { header.as_ref() }.is_marker() {
                return Poll::Ready(Ok(header));
            }
            // SAFETY: in bounds.
            unsafe { record.empty(depth) };
            if header.as_ptr() == marker(&ABSENT) {
                return Poll::Ready(Err(Refused::NotActive));
            }
            match self.at_gate(record, depth, &mut waiter) {
                AtGate::Opened => {}
                AtGate::Passed(header) => return Poll::Ready(Ok(header)),
                AtGate::TimedOut => return Poll::Ready(Err(Refused::GateTimeout)),
                AtGate::Parked => return Poll::Pending,
            }
        }
    }

    fn at_gate(&self, record: &'static ThreadRecord, depth: usize, waiter: &mut Waiter<'_>) -> AtGate {
        // Foreign code, and so outside of the lock; likewise `before` below.
        let own = match waiter {
            Waiter::Task(waker, _) => Some(waker.clone()),
            Waiter::Block => None,
        };
        // Looked up once and kept: a chain that was in the version may be out
        // of it the next moment, and it passes all the same.
        let mut passing = None;
        let mut waits = |control: &mut Control<P>| {
            passing = passes(control, record);
            control.gate != Gate::Open && passing.is_none()
        };
        let mut control = lock(&self.control);
        match *waiter {
            Waiter::Block => control = wait_while(&self.opened, control, self.gate_timeout, waits),
            Waiter::Task(..) => _ = waits(&mut control),
        }
        if control.gate == Gate::Open {
            return AtGate::Opened;
        }
        if let Some(header) = passing {
            // The lock keeps the version in the gate until the hazard is
            // stored; who drains it then takes the lock to seal, and so finds
            // the hazard. No validation is needed.
            // SAFETY: the top of the stack, in bounds as `admit` checked.
            unsafe { record.hazard(depth) }.store(header.as_ptr(), Ordering::Release);
            return AtGate::Passed(header);
        }
        let (Waiter::Task(_, place), Some(own)) = (waiter, own) else {
            return AtGate::TimedOut;
        };
        let before = control.waiting.take(place, own);
        drop(control);
        drop(before);
        AtGate::Parked
    }

    /// Gives a place up: the task is not woken any more, and its waker is
    /// dropped here. Does nothing for a task that never waited.
    pub fn leave_gate(&self, place: &mut GatePlace) {
        if let Some(key) = place.0.take() {
            let waker = lock(&self.control).waiting.wakers.remove(&key);
            // Foreign code, and so after the lock.
            drop(waker);
        }
    }

    /// Opens the gate, with the live pointer stored already, and wakes all
    /// that wait.
    fn let_in(&self, mut control: MutexGuard<'_, Control<P>>) {
        control.gate = Gate::Open;
        self.rouse(control);
    }

    /// Wakes all that wait; who finds the gate as it was waits again.
    fn rouse(&self, mut control: MutexGuard<'_, Control<P>>) {
        let wakers = std::mem::take(&mut control.waiting.wakers);
        // Before the wakers run: they are foreign code.
        drop(control);
        self.opened.notify_all();
        wakers.into_values().for_each(wake);
    }
}

/// Wakes a task of whatever executor. A waker that panics has been reported by
/// the panic hook, and is no business of the thread that happens to wake it.
pub(crate) fn wake(waker: Waker) {
    let woken = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    if let Err(payload) = woken {
        // Dropping it may panic in its turn.
        std::mem::forget(payload);
    }
}

/// The version that this call may enter although the gate is closed: its chain
/// is in it already.
fn passes<P: Payload>(control: &Control<P>, record: &'static ThreadRecord) -> Option<NonNull<Header>> {
    let version = control.version.as_ref().filter(|_| control.gate == Gate::Closed)?;
    Some(version.as_header()).filter(|header| chain::is_in(record, *header))
}

enum AtGate {
    Opened,
    Passed(NonNull<Header>),
    TimedOut,
    Parked,
}

/// The right to open a gate, in either state; dropping it reopens.
struct Held<'s, P: Payload> {
    slot: &'s Slot<P>,
    /// The version behind the gate. Nobody replaces it while this is held, so
    /// looking at it takes no lock that a call might need.
    version: Owned<P>,
    barrier: HeavyOnce,
}

impl<P: Payload> Held<'_, P> {
    fn in_flight(&self) -> InFlight {
        InFlight::of(self.version.header())
    }

    fn is_drained(&self) -> bool {
        self.barrier.is_done() && self.in_flight().is_none()
    }
}

impl<P: Payload> Drop for Held<'_, P> {
    fn drop(&mut self) {
        let control = lock(&self.slot.control);
        // Partner: `protect`, as in `replace`.
        let version = self.version.as_header().as_ptr();
        self.slot.live.swap(version, Ordering::AcqRel);
        self.slot.let_in(control);
    }
}

impl<P: Payload> fmt::Debug for Closed<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closed").field(&self.held.version.id()).finish()
    }
}

impl<P: Payload> fmt::Debug for Sealed<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&self.held.version.id()).finish()
    }
}
