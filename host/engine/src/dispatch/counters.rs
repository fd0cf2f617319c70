//! What one thread has to say about one version: how often it called, how
//! often that failed, and whether the version's thread-locals are still on it.
//!
//! Every thread has an entry for every version that could be alive, in one
//! stretch of address space that the kernel backs with memory page by page as
//! it is touched; so the hot path finds its entry without a bounds check. Only
//! the owning thread counts, with plain loads and stores. This file never
//! waits and never calls a plugin.

use super::index::MAX_VERSIONS;
use super::record::ThreadRecord;
use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering, constructor, filled, lock, shared};
use super::version::Header;
use std::ptr::NonNull;

/// How often a version was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls begun, and leases taken.
    pub calls: u64,
    /// Calls that their caller marked as failed.
    pub errors: u64,
}

/// One thread's account of one version. Two of them share a cache line.
#[repr(C, align(32))]
pub(super) struct Entry {
    /// Calls begun. Zero sends the next call down the cold path; not zero
    /// means that this thread is attached.
    pub(super) calls: AtomicU64,
    /// Calls marked as failed.
    pub(super) errors: AtomicU64,
    /// Entries that `calls` does not have: through a lease, or folded away.
    pub(super) other_entries: AtomicU64,
    /// One of `NONE`, `ATTACHED`, `CLAIMED`.
    attach: AtomicU32,
    /// Where the thread's sequence of calls stands that are split between this
    /// version and another, plus one; zero before the first. It outlives thread
    /// and version: who has the entry next goes on from there, so that many
    /// short-lived threads get the share that one long-lived one does.
    turn: AtomicU32,
}

/// The version has no thread-locals on this thread.
const NONE: u32 = 0;
/// It may have some. Only the owning thread goes from `NONE` to here.
const ATTACHED: u32 = 1;
/// Somebody is removing or writing them off; until that ends, the version
/// stays in memory.
const CLAIMED: u32 = 2;

impl Entry {
    constructor! {
        fn new() -> Self {
            Entry {
                calls: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                other_entries: AtomicU64::new(0),
                attach: AtomicU32::new(NONE),
                turn: AtomicU32::new(0),
            }
        }
    }

    /// Takes `share` steps on a round of `whole`, and says whether one was
    /// completed: by the owning thread, before it chooses this version or not.
    ///
    /// Threads begin at different places of the round, so that many that call
    /// a few times each do not all choose the same.
    #[inline]
    pub(super) fn take_turn(&self, share: u32, whole: u32, thread: u32) -> bool {
        let turn = match self.turn.load(Ordering::Relaxed) {
            0 => first_turn(thread, whole),
            turn => turn - 1,
        };
        let next = turn + share;
        let completed = next >= whole;
        self.turn.store(if completed { next - whole } else { next } + 1, Ordering::Relaxed);
        completed
    }

    /// Remembers that the owning thread has run the version's code.
    pub(super) fn attach(&self) {
        // Relaxed: read by others only after they found the hazard or the
        // lease of this call gone, which orders it.
        if self.attach.load(Ordering::Relaxed) == NONE {
            self.attach.store(ATTACHED, Ordering::Relaxed);
        }
    }

    /// Whether the version's thread-locals are on the thread, or being removed.
    pub(super) fn is_attached(&self) -> bool {
        // Acquire: partner is the Release in `Claim::settle`; who sees NONE sees
        // the plugin's destructors finished and the counts folded.
        self.attach.load(Ordering::Acquire) != NONE
    }

    /// Whether a claim would succeed.
    pub(super) fn is_claimable(&self) -> bool {
        self.attach.load(Ordering::Relaxed) == ATTACHED
    }

    /// Takes the right to detach or to abandon this thread; one of the two,
    /// once. While the claim is held the version cannot be finished.
    pub(super) fn claim(&self) -> Option<Claim<'_>> {
        // Acquire: the abandoning thread reads what the owner counted; the
        // owner's stores are ordered by its hazard's release already.
        self.attach
            .compare_exchange(ATTACHED, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Claim(self))
    }
}

/// The right to empty an entry. Must not outlive the moment in which the
/// owning thread is outside of the version.
pub(super) struct Claim<'a>(&'a Entry);

impl Claim<'_> {
    /// Moves the thread's counts into the version's own and gives the entry
    /// back: the thread's next call on this index starts from zero.
    pub(super) fn settle(self, header: &Header) {
        let _folding = lock(&FOLDING);
        let entry = self.0;
        let shared = header.shared();
        shared.add(entry.load());
        entry.other_entries.store(entry.entries(), Ordering::Relaxed);
        entry.calls.store(0, Ordering::Relaxed);
        entry.errors.store(0, Ordering::Relaxed);
        // Release: partner is `is_attached`.
        entry.attach.store(NONE, Ordering::Release);
    }
}

/// Adds one to a counter that only this thread writes.
#[inline(always)]
pub(super) fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The sum over all threads, and over those that are gone.
///
/// Exact once the version is drained; before that, calls that begin meanwhile
/// may or may not be in it.
pub(super) fn sum(header: &Header) -> Counters {
    // A fold moves counts from an entry to the version; nobody may look in
    // between.
    let _folding = lock(&FOLDING);
    let mut total = header.shared().counters();
    for record in ThreadRecord::all() {
        let entry = record.entry(header.index()).load();
        total.calls += entry.calls;
        total.errors += entry.errors;
    }
    total
}

/// How many threads have, or may have, thread-locals of the version.
pub(super) fn attached(header: &Header) -> usize {
    ThreadRecord::all().filter(|record| record.entry(header.index()).is_attached()).count()
}

/// Multiples of the golden ratio's fraction spread evenly, however many there
/// are.
#[cold]
fn first_turn(thread: u32, whole: u32) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9;
    let fraction = (u64::from(thread) * GOLDEN) & u64::from(u32::MAX);
    // The upper half of a product is below its second factor.
    ((fraction * u64::from(whole)) >> 32) as u32
}

shared! {
    /// Held while counts move from an entry to their version.
    static FOLDING: Mutex<()> = Mutex::new(());
    /// Nobody's table; nobody counts in it. It takes address space, and no memory.
    static ZEROS: [Entry; MAX_VERSIONS] = filled![Entry::new(); MAX_VERSIONS];
}

impl Entry {
    /// How often this place in the table was entered, by whatever thread, on
    /// whatever version: never twice the same number for two entries.
    pub(super) fn entries(&self) -> u64 {
        self.calls.load(Ordering::Relaxed) + self.other_entries.load(Ordering::Relaxed)
    }

    fn load(&self) -> Counters {
        Counters { calls: self.calls.load(Ordering::Relaxed), errors: self.errors.load(Ordering::Relaxed) }
    }
}

/// A table whose counts stay zero: calls that look there take the cold path.
pub(super) fn zeros() -> NonNull<Entry> {
    let zeros: &[Entry; MAX_VERSIONS] = &ZEROS;
    NonNull::from(zeros).cast()
}

/// The table of one thread: an entry per version index, all zero, never freed.
///
/// `None` if the process has no address space left.
#[cfg(not(loom))]
pub(super) fn new_table() -> Option<NonNull<Entry>> {
    const LENGTH: usize = MAX_VERSIONS * size_of::<Entry>();
    if cfg!(miri) {
        let layout = std::alloc::Layout::array::<Entry>(MAX_VERSIONS).ok()?;
        // SAFETY: the layout is not of size zero. All-zero is a valid table.
        return NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }.cast());
    }
    // From the kernel rather than from the allocator, which may hand out (and
    // clear, and so make resident) memory that it already holds.
    // SAFETY: a fresh private mapping touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(start.cast())
}

/// The same for models, whose atomics are not all zero.
#[cfg(loom)]
pub(super) fn new_table() -> Option<NonNull<Entry>> {
    // Loom makes statics when they are first asked for. Whoever reads this one through its
    // record has asked for it, as if it had always been there.
    let _ = zeros();
    let entries: Box<[Entry; MAX_VERSIONS]> = Box::new(filled![Entry::new(); MAX_VERSIONS]);
    Some(NonNull::from(Box::leak(entries)).cast())
}
