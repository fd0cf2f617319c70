//! Leases: a version held by a value instead of by a stack frame, for calls
//! that cross an await or a thread.
//!
//! A lease is a count on the version, shared by all who hold one; that is the
//! only counter of the core that several threads write, and why a lease costs
//! tens of nanoseconds where a call costs one. Who holds them, since when and
//! on whose behalf is kept in a table beside, for status and for chains. A
//! lease has no time limit of its own: it keeps its version for as long as it
//! lives.

use super::chain::{ChainToken, current_chain};
use super::frame::{Entered, Frame, FrameKind};
use super::record;
use super::slot::Refused;
use super::sync::{AtomicU64, Mutex, Ordering, filled, lock, shared};
use super::version::{self, Header, Payload, VersionId};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// Who takes a lease, for status, and on whose behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// What the lease is for, as an operator would name it.
    pub label: &'static str,
    /// When it was taken, in whatever unit the caller keeps time. The core has
    /// no clock and only hands it back.
    pub since: u64,
    /// The call that it is taken for.
    pub parent: ChainToken,
}

impl Holder {
    /// A lease on behalf of the call that is running on this thread, if any.
    pub fn new(label: &'static str, since: u64) -> Self {
        Holder { label, since, parent: current_chain() }
    }

    /// The same on behalf of another call.
    #[must_use]
    pub fn in_chain(self, parent: ChainToken) -> Self {
        Holder { parent, ..self }
    }
}

/// A version that stays in memory until this is dropped.
///
/// It may move to any thread. Dereferences to the payload, to look at it; code
/// of the plugin runs inside of [`enter`](Self::enter), so that the thread is
/// known to have run it.
#[must_use = "the version may leave as soon as the lease is dropped"]
pub struct Lease<P: Payload> {
    header: NonNull<Header>,
    id: u64,
    payload: PhantomData<P>,
}

// SAFETY: gives out `&P` only, and `P` is Send and Sync; the rest is atomics.
unsafe impl<P: Payload> Send for Lease<P> {}
// SAFETY: as above.
unsafe impl<P: Payload> Sync for Lease<P> {}

impl<P: Payload> Lease<P> {
    /// # Safety
    /// The lease is counted on the header's version, which is one of `P`.
    pub(super) unsafe fn counted(header: NonNull<Header>, holder: Holder) -> Self {
        // Relaxed: only has to differ.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: counted, so the version lives.
        let version = unsafe { header.as_ref() }.id().expect("markers are never leased");
        let held = Held { version, address: header.addr().get(), holder };
        lock(shard(id)).insert(id, held);
        Lease { header, id, payload: PhantomData }
    }

    /// Runs the plugin's code on this thread: for an async call, each poll of
    /// it. Counts as no call of its own.
    ///
    /// # Errors
    /// [`Refused::Depth`] and [`Refused::TooManyThreads`].
    pub fn enter<R>(&self, call: impl FnOnce(Entered<'_, P>) -> R) -> Result<R, Refused> {
        let here = record::here()?;
        let record = here.record;
        record.settle();
        let _link = self.chain().link(record)?;
        let depth = record.depth();
        // The lease keeps the version, so the hazard needs no validation. It
        // is there for chains and for the watchdog.
        // SAFETY: the top of the stack, and `link` found room for it.
        unsafe { record.hazard(depth) }.store(self.header.as_ptr(), Ordering::Release);
        // SAFETY: `self` is borrowed, and so the version kept, until it ends.
        let frame = unsafe { Frame::begin(record, depth, self.header, FrameKind::Lease) };
        // SAFETY: a version of `P`.
        let running = unsafe { frame.running() };
        Ok(running.end_behind(call))
    }

    /// The token of this lease, for calls made on its behalf.
    pub fn chain(&self) -> ChainToken {
        ChainToken::of_lease(self.id)
    }

    /// Who holds leases on the version, this one among them.
    pub fn holders(&self) -> Vec<Holder> {
        holders(self.version())
    }

    /// The version that it holds.
    pub fn version(&self) -> VersionId {
        // SAFETY: the count keeps the version.
        unsafe { self.header.as_ref() }.id().expect("markers are never leased")
    }
}

impl<P: Payload> Deref for Lease<P> {
    type Target = P;

    fn deref(&self) -> &P {
        // SAFETY: the count keeps the version, which is one of `P`.
        unsafe { version::payload(self.header) }
    }
}

impl<P: Payload> Drop for Lease<P> {
    fn drop(&mut self) {
        lock(shard(self.id)).remove(&self.id);
        // SAFETY: still counted. Nothing is touched after.
        unsafe { self.header.as_ref() }.shared().drop_lease();
    }
}

impl<P: Payload> fmt::Debug for Lease<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.version()).finish()
    }
}

/// Who holds leases on a version.
pub(super) fn holders(version: VersionId) -> Vec<Holder> {
    let of_shard = |shard: &Mutex<BTreeMap<u64, Held>>| -> Vec<Holder> {
        let held = lock(shard);
        let ours = held.values().filter(|held| held.version == version);
        ours.map(|held| held.holder).collect()
    };
    HELD.iter().flat_map(of_shard).collect()
}

/// The address of the version that a lease holds, and on whose behalf.
pub(super) fn linked(id: u64) -> Option<(usize, ChainToken)> {
    let held = lock(shard(id));
    held.get(&id).map(|held| (held.address, held.holder.parent))
}

struct Held {
    version: VersionId,
    address: usize,
    holder: Holder,
}

/// Several, so that threads which take leases seldom meet at one lock.
const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };

shared! {
    static HELD: [Mutex<BTreeMap<u64, Held>>; SHARDS] = filled![Mutex::new(BTreeMap::new()); SHARDS];
    static NEXT: AtomicU64 = AtomicU64::new(1);
}

fn shard(id: u64) -> &'static Mutex<BTreeMap<u64, Held>> {
    &HELD[(id % SHARDS as u64) as usize]
}
