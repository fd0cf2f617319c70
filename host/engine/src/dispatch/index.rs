//! Indices: where each version in memory stands, over all hosts.
//!
//! A dense index lets a thread find its counters by adding an offset. The
//! table from indices back to versions is read without a lock by threads that
//! hold a claim; giving indices out and taking them back is locked, and rare.
//! This file never frees a version.

use super::sync::{AtomicBool, AtomicPtr, Mutex, Ordering, constructor, filled, lock, shared};
use super::version::{Header, VersionId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};

/// How many versions may be in memory at once, over all hosts of the process;
/// one index is reserved.
pub const MAX_VERSIONS: usize = if cfg!(loom) {
    4
} else if cfg!(miri) {
    64
} else {
    16_384
};

/// An index that no version has, and a name for the version that will.
pub(super) fn take() -> Option<(usize, VersionId)> {
    lock(&REGISTRY).take()
}

/// Puts a version where its index points.
pub(super) fn set(index: usize, id: VersionId, header: *mut Header) {
    // Release: partner is the Acquire in `pinned`.
    VERSIONS[index].header.store(header, Ordering::Release);
    let mut registry = lock(&REGISTRY);
    registry.by_address.insert(header.addr(), (id, index));
}

/// Takes it out again. When this returns, nobody looks at it by its address.
pub(super) fn clear(index: usize, header: *mut Header) {
    VERSIONS[index].detachable.store(false, Ordering::Release);
    VERSIONS[index].header.store(ptr::null_mut(), Ordering::Relaxed);
    lock(&REGISTRY).by_address.remove(&header.addr());
}

/// Lets the next version have the index.
pub(super) fn give_back(index: usize) {
    lock(&REGISTRY).free.push(Reverse(index));
}

/// From now on threads shall detach from the version at an index.
pub(super) fn set_detachable(index: usize) {
    // Release: partner is `is_detachable`.
    VERSIONS[index].detachable.store(true, Ordering::Release);
}

/// The version at an index.
///
/// # Safety
/// The caller holds a claim on a thread's entry of this index.
pub(super) unsafe fn pinned(index: usize) -> NonNull<Header> {
    // Acquire: partner is the Release in `set`.
    let header = VERSIONS[index].header.load(Ordering::Acquire);
    // SAFETY: `finish` waits until no entry of the index is claimed, so the
    // header is there, and lives for as long as the claim.
    unsafe { NonNull::new_unchecked(header) }
}

/// Whether threads are asked to detach from the version at an index. A hint:
/// only a claim makes sure that it is still the same version.
pub(super) fn is_detachable(index: usize) -> bool {
    // Acquire: partner is `set_detachable`.
    VERSIONS[index].detachable.load(Ordering::Acquire)
}

/// Calls `look` with a lookup from addresses to versions, none of which is
/// freed meanwhile.
pub(super) fn with_known<R>(look: impl FnOnce(&dyn Fn(*mut Header) -> Option<(VersionId, usize)>) -> R) -> R {
    let registry = lock(&REGISTRY);
    look(&|header| registry.by_address.get(&header.addr()).copied())
}

shared! {
    static VERSIONS: [Place; MAX_VERSIONS] = filled![Place::empty(); MAX_VERSIONS];
    static REGISTRY: Mutex<Registry> =
        Mutex::new(Registry { next: 1, free: BinaryHeap::new(), last_id: 0, by_address: BTreeMap::new() });
}

struct Place {
    header: AtomicPtr<Header>,
    detachable: AtomicBool,
}

impl Place {
    constructor! {
        fn empty() -> Self {
            Place { header: AtomicPtr::new(ptr::null_mut()), detachable: AtomicBool::new(false) }
        }
    }
}

struct Registry {
    /// The lowest index that was never used; 0 is the markers'.
    next: usize,
    /// Indices to use again, lowest first: threads then touch few pages.
    free: BinaryHeap<Reverse<usize>>,
    last_id: u64,
    by_address: BTreeMap<usize, (VersionId, usize)>,
}

impl Registry {
    fn take(&mut self) -> Option<(usize, VersionId)> {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None if self.next < MAX_VERSIONS => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.last_id += 1;
        let id = NonZeroU64::new(self.last_id).expect("counts up from one");
        Some((index, VersionId::new(id)))
    }
}
