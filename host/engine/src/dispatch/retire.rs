//! Retiring: from "no longer published" to "nobody uses it", and out.
//!
//! [`Retired`] → (calls return, leases are dropped) → [`Drained`] → (threads
//! detach or are abandoned) → [`Finished`]. Each step is polled, by whoever
//! has the time; none waits, and none takes a lock that a call needs.

use super::barrier::HeavyOnce;
use super::counters::{Counters, attached};
use super::lease::{Holder, Lease};
use super::record::{ThreadRecord, pass_by};
use super::version::{Finished, Header, Owned, Payload, Version, VersionId};
use std::fmt;

/// What still uses a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Frames on threads' stacks. One that is just being given up may be
    /// counted.
    pub stack: usize,
    /// Leases.
    pub leases: usize,
}

impl InFlight {
    /// Whether nothing does.
    pub fn is_none(self) -> bool {
        self.stack == 0 && self.leases == 0
    }

    /// Hazards first, leases second: a call that takes a lease has the lease
    /// counted before its hazard is cleared, so one of the two is seen.
    pub(super) fn of(header: &Header) -> Self {
        let address = std::ptr::from_ref(header).addr();
        let stack = ThreadRecord::all()
            .flat_map(ThreadRecord::frames)
            .filter(|frame| frame.addr() == address)
            .count();
        InFlight { stack, leases: header.shared().leases() }
    }
}

/// A version that no slot publishes any more, but calls may be in.
///
/// Dropping it leaves the version in memory for good.
#[must_use = "the version stays in memory until it is finished"]
pub struct Retired<P: Payload> {
    version: Owned<P>,
    barrier: HeavyOnce,
}

impl<P: Payload> Retired<P> {
    /// Just replaced: the pointer is stored, and the barrier is yet to come.
    pub(super) fn now(version: Owned<P>) -> Self {
        Retired::new(version, HeavyOnce::due())
    }

    /// Replaced before `barrier`.
    pub(super) fn new(version: Owned<P>, barrier: HeavyOnce) -> Self {
        Retired { version, barrier }
    }

    /// The version's name in this process.
    pub fn id(&self) -> VersionId {
        self.version.id()
    }

    /// The payload, to look at.
    pub fn payload(&self) -> &P {
        self.version.payload()
    }

    /// Makes every call that began before the version was replaced visible to
    /// [`in_flight`](Self::in_flight), and says whether that worked. Takes the
    /// heavy barrier, microseconds, the first time; publishing leaves it out,
    /// so that the new version serves before it. Who only polls
    /// [`is_drained`](Self::is_drained) need not call it.
    pub fn settle(&self) -> bool {
        self.barrier.is_done()
    }

    /// What uses the version. Exact after [`settle`](Self::settle); before, a
    /// call that has just begun may be missed.
    pub fn in_flight(&self) -> InFlight {
        InFlight::of(self.version.header())
    }

    /// Who holds leases on it.
    pub fn holders(&self) -> Vec<Holder> {
        self.version.holders()
    }

    /// Calls so far.
    pub fn counters(&self) -> Counters {
        self.version.counters()
    }

    /// A lease for the version's last hooks, which run on threads of the
    /// engine. It counts as in flight.
    pub fn lease(&self, holder: Holder) -> Lease<P> {
        self.version.lease(holder)
    }

    /// Whether every call has returned and every lease is gone. Meant to be
    /// polled.
    pub fn is_drained(&self) -> bool {
        self.barrier.is_done() && self.in_flight().is_none()
    }

    /// Goes on to the next step, if [`is_drained`](Self::is_drained). From
    /// here on threads detach as they pass by.
    ///
    /// # Errors
    /// The version as it was, if something still uses it.
    pub fn try_drained(self) -> Result<Drained<P>, Self> {
        if !self.is_drained() {
            return Err(self);
        }
        self.version.set_detachable();
        Ok(Drained { version: self.version })
    }

    /// Makes it publishable again, calls in flight and all: the way back is a
    /// matter of storing a pointer.
    pub fn revive(self) -> Version<P> {
        Version(self.version)
    }
}

/// A version that no call and no lease uses, nor ever will; threads may still
/// have thread-locals of it. There is no way back from here: a thread-local
/// whose destructor ran cannot be used again on its thread.
///
/// Dropping it leaves the version in memory for good.
#[must_use = "the version stays in memory until it is finished"]
pub struct Drained<P: Payload> {
    version: Owned<P>,
}

impl<P: Payload> Drained<P> {
    /// The version's name in this process.
    pub fn id(&self) -> VersionId {
        self.version.id()
    }

    /// The payload, to look at.
    pub fn payload(&self) -> &P {
        self.version.payload()
    }

    /// All calls that it served.
    pub fn counters(&self) -> Counters {
        self.version.counters()
    }

    /// Asks every thread that used the version to detach on its next call, on whatever
    /// slot, and detaches this one if it is outside of any call. Returns how many
    /// threads have not, yet. Meant to be polled.
    pub fn detach_threads(&self) -> usize {
        let header = self.version.header();
        for record in ThreadRecord::all() {
            if record.entry(header.index()).is_claimable() {
                record.kick();
            }
        }
        pass_by();
        attached(header)
    }

    /// Gives up on threads that have not begun to detach, and returns how many
    /// there were. Their thread-locals are never dropped. Threads that are
    /// detaching right now are not given up: the version has to wait for them.
    pub fn abandon(&self) -> usize {
        let header = self.version.header();
        // Drained, so no thread is in the version: its entry may be emptied.
        ThreadRecord::all()
            .filter_map(|record| record.entry(header.index()).claim())
            .map(|claim| claim.settle(header))
            .count()
    }

    /// Gives the payload back, frees the version, and recycles its index.
    ///
    /// # Errors
    /// The version as it was, while a thread is attached or detaching.
    pub fn finish(self) -> Result<Finished<P>, Self> {
        if attached(self.version.header()) > 0 {
            return Err(self);
        }
        // SAFETY: drained, so nobody uses it and nobody will; no thread is
        // attached, nor can become so without a call; and a slot that had it
        // gave it up when it was retired.
        Ok(unsafe { self.version.finish() })
    }
}

impl<P: Payload> fmt::Debug for Retired<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retired").field(&self.id()).finish()
    }
}

impl<P: Payload> fmt::Debug for Drained<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drained").field(&self.id()).finish()
    }
}
