//! Versions: what a slot publishes.
//!
//! A version is a payload behind a small erased header. Its index is dense, so
//! that a thread finds its counters by adding an offset (`index.rs` gives them
//! out). Handles never free a version by being
//! dropped: a version that is not finished stays in memory, because somebody
//! may still run its code. The one way out is
//! [`Drained::finish`](super::Drained::finish).

use super::counters::{Counters, Entry, sum};
use super::index::{self, MAX_VERSIONS};
use super::lease::{self, Holder, Lease};
use super::retire::Retired;
use super::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::failure::{Code, Failure};
use crossbeam::utils::CachePadded;
use std::fmt;
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};

/// What a version is made of; the core never looks into it.
pub trait Payload: Send + Sync + 'static {
    /// Runs the plugin's thread-local destructors on the current thread, and
    /// returns how many ran.
    ///
    /// Called once per thread that used the version, on that thread, outside
    /// of any call, when the version has drained or the thread ends. It may
    /// call into other slots. It must not panic: a version whose detach
    /// panicked counts as attached for ever and is never given back.
    fn detach_thread(&self, outside: &Outside) -> u64;
}

/// Says that this thread is outside of every call: no frame below uses a
/// thread-local of a plugin. Only the core knows that, so only the core has one.
#[derive(Debug)]
pub struct Outside(());

/// Names a version in this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(NonZeroU64);

impl VersionId {
    pub(super) fn new(id: NonZeroU64) -> Self {
        VersionId(id)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version that no slot publishes yet, or no longer.
///
/// Dropping it leaves the payload in memory for good; to give it up,
/// [`retire`](Self::retire) it.
#[must_use = "a version that is dropped stays in memory; publish or retire it"]
pub struct Version<P: Payload>(pub(super) Owned<P>);

impl<P: Payload> Version<P> {
    /// Gives the payload an index.
    ///
    /// # Errors
    /// [`VersionsExhausted`] with the payload, if [`MAX_VERSIONS`] are in
    /// memory.
    pub fn new(payload: P) -> Result<Self, VersionsExhausted<P>> {
        let Some((index, id)) = index::take() else {
            return Err(VersionsExhausted { payload });
        };
        let body = Box::into_raw(Box::new(Body {
            header: Header {
                offset: index * size_of::<Entry>(),
                id: Some(id),
                detach: detach_erased::<P>,
                shared: Box::into_raw(Box::default()),
            },
            payload,
        }));
        index::set(index, id, body.cast());
        // SAFETY: just made from a box.
        Ok(Version(Owned(unsafe { NonNull::new_unchecked(body) })))
    }

    /// The version's name in this process.
    pub fn id(&self) -> VersionId {
        self.0.id()
    }

    /// The payload, to look at. Code of the plugin runs through a lease.
    pub fn payload(&self) -> &P {
        self.0.payload()
    }

    /// A lease on this version, whether or not it is published: for hooks that
    /// run before it is, on threads of the engine.
    pub fn lease(&self, holder: Holder) -> Lease<P> {
        self.0.lease(holder)
    }

    /// Gives the version up without ever publishing it.
    pub fn retire(self) -> Retired<P> {
        Retired::now(self.0)
    }
}

impl<P: Payload> fmt::Debug for Version<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Version").field(&self.id()).finish()
    }
}

/// No index is left: too many versions are still in memory.
pub struct VersionsExhausted<P> {
    /// What was to become a version.
    pub payload: P,
}

impl<P> fmt::Debug for VersionsExhausted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionsExhausted").finish_non_exhaustive()
    }
}

impl<P> fmt::Display for VersionsExhausted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {} versions that fit in this process are in memory", MAX_VERSIONS - 1)
    }
}

impl<P> std::error::Error for VersionsExhausted<P> {}

impl<P> Failure for VersionsExhausted<P> {
    fn code(&self) -> Code {
        Code::UnloadCapReached
    }
}

/// The part of a version that the core reads; the payload follows it.
#[repr(C)]
pub(super) struct Header {
    /// Where the version's entry starts in each thread's table, in bytes. Zero
    /// is reserved for markers, whose count stays zero, so that a call that
    /// finds one leaves the hot path.
    offset: usize,
    id: Option<VersionId>,
    detach: unsafe fn(NonNull<Header>) -> u64,
    shared: *mut CachePadded<Shared>,
}

// SAFETY: constant after construction; `shared` points to atomics that live as
// long as the header.
unsafe impl Sync for Header {}

impl Header {
    /// What a slot without a version publishes.
    pub(super) const fn marker() -> Self {
        Header { offset: 0, id: None, detach: detach_nothing, shared: ptr::null_mut() }
    }

    #[inline(always)]
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn id(&self) -> Option<VersionId> {
        self.id
    }

    pub(super) fn index(&self) -> usize {
        self.offset / size_of::<Entry>()
    }

    pub(super) fn is_marker(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: null for markers only, and a marker is never called, leased
        // or retired; freed together with the header.
        unsafe { &*self.shared }
    }

    /// Runs the plugin's thread-local destructors on this thread.
    ///
    /// # Safety
    /// The version behind the header stays in memory until this returns, and
    /// this thread is outside of its code for good.
    pub(super) unsafe fn detach_thread(header: NonNull<Header>) -> u64 {
        // SAFETY: the caller keeps the version, and `detach` was made for it.
        unsafe { (header.as_ref().detach)(header) }
    }
}

/// What several threads write about a version, away from what callers read.
#[derive(Default)]
pub(super) struct Shared {
    leases: AtomicUsize,
    calls: AtomicU64,
    errors: AtomicU64,
    destructors: AtomicU64,
}

impl Shared {
    /// One lease more. The caller makes sure that the version cannot be
    /// finished meanwhile.
    pub(super) fn take_lease(&self) {
        // Relaxed: what comes after it (a hazard cleared with Release, or a
        // lock given back) shows it to those who drain.
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    /// A call that no thread's entry counts.
    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// One lease less; the version may be gone right after.
    pub(super) fn drop_lease(&self) {
        // Release: partner is `leases`.
        self.leases.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn leases(&self) -> usize {
        // Acquire: partner is `drop_lease`.
        self.leases.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, counts: Counters) {
        self.calls.fetch_add(counts.calls, Ordering::Relaxed);
        self.errors.fetch_add(counts.errors, Ordering::Relaxed);
    }

    pub(super) fn add_destructors(&self, count: u64) {
        self.destructors.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        Counters { calls: self.calls.load(Ordering::Relaxed), errors: self.errors.load(Ordering::Relaxed) }
    }
}

/// A version in memory. Aligned so that the header and the first words of the
/// payload share a cache line, and that a hazard has a bit to spare.
#[repr(C, align(64))]
pub(super) struct Body<P> {
    header: Header,
    payload: P,
}

/// The handle that may finish a version. No `Drop`: see the file's head.
pub(super) struct Owned<P>(NonNull<Body<P>>);

// SAFETY: owns a body whose payload is Send and Sync and whose header is Sync.
unsafe impl<P: Payload> Send for Owned<P> {}
// SAFETY: as above; shared access gives out `&P` and atomics.
unsafe impl<P: Payload> Sync for Owned<P> {}

impl<P> Owned<P> {
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the body lives until `finish` consumes the one handle.
        unsafe { &(*self.0.as_ptr()).header }
    }

    /// A second handle, for who keeps the first from being finished.
    pub(super) fn alias(&self) -> Owned<P> {
        Owned(self.0)
    }

    /// The address that slots publish and hazards hold.
    pub(super) fn as_header(&self) -> NonNull<Header> {
        self.0.cast()
    }

    pub(super) fn id(&self) -> VersionId {
        self.header().id.expect("only markers have no id")
    }

    pub(super) fn payload(&self) -> &P {
        // SAFETY: as in `header`.
        unsafe { &(*self.0.as_ptr()).payload }
    }

    pub(super) fn counters(&self) -> Counters {
        sum(self.header())
    }
}

impl<P: Payload> Owned<P> {
    pub(super) fn lease(&self, holder: Holder) -> Lease<P> {
        self.header().shared().take_lease();
        // SAFETY: counted, and the handle kept the version until it was.
        unsafe { Lease::counted(self.as_header(), holder) }
    }

    pub(super) fn holders(&self) -> Vec<Holder> {
        lease::holders(self.id())
    }

    pub(super) fn set_detachable(&self) {
        index::set_detachable(self.header().index());
    }

    /// Frees the version and recycles its index.
    ///
    /// # Safety
    /// Nobody uses the version, no thread is attached to it, and no slot or
    /// other handle has it.
    pub(super) unsafe fn finish(self) -> Finished<P> {
        let index = self.header().index();
        let counters = self.counters();
        // Unknown first, free last: after this the watchdog takes the address
        // for a stranger's, and the index is used again when it is unused.
        index::clear(index, self.as_header().as_ptr());
        // SAFETY: made by `Box::into_raw` in `new`, and nobody else has it.
        let body = unsafe { Box::from_raw(self.0.as_ptr()) };
        // SAFETY: likewise, and the header is given up here.
        let shared = unsafe { Box::from_raw(body.header.shared) };
        index::give_back(index);
        Finished { destructors: shared.destructors.load(Ordering::Relaxed), payload: body.payload, counters }
    }
}

/// What is left of a version when nobody uses it any more.
#[must_use = "the payload is dropped with it"]
pub struct Finished<P> {
    /// The payload, back in one pair of hands.
    pub payload: P,
    /// All calls that the version ever served.
    pub counters: Counters,
    /// Thread-local destructors that ran when threads left it.
    pub destructors: u64,
}

impl<P> fmt::Debug for Finished<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// The payload behind a header.
///
/// # Safety
/// The header is that of a `Body<P>`, which lives for `'a`.
#[inline(always)]
pub(super) unsafe fn payload<'a, P: 'a>(header: NonNull<Header>) -> &'a P {
    // SAFETY: the caller vouches for type and lifetime.
    unsafe { &(*header.cast::<Body<P>>().as_ptr()).payload }
}

unsafe fn detach_erased<P: Payload>(header: NonNull<Header>) -> u64 {
    // SAFETY: only the header of a `Body<P>` points here, and its caller has
    // claimed the version, on a thread that is outside of it for good.
    unsafe { payload::<P>(header) }.detach_thread(&Outside(()))
}

unsafe fn detach_nothing(_: NonNull<Header>) -> u64 {
    0
}
