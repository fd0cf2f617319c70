//! Thread records: what each thread tells publishers about itself.
//!
//! A record holds the thread's hazard stack (which version is in use at which
//! nesting depth) and its counters. Records are process-wide, because a thread
//! is: they know versions only by their erased [`Header`], so that hosts share
//! them without knowing of each other. A record is never freed; when its
//! thread ends, the next new thread takes it over. The list only grows, so it
//! is walked without a lock.
//!
//! Only the owning thread writes its record, but for `table`, through which others ask
//! it to come by the cold path, and for the entry of a drained version that is
//! abandoned. The file is long so that who writes what, and
//! when, can be checked in one place.
//!
//! long: the record and its hazards are one invariant; half of it is its argument.

use super::Refused;
use super::barrier::{self, BarrierKind};
use super::chain::ChainToken;
use super::counters::{self, Entry, new_table};
use super::index::{self, MAX_VERSIONS};
use super::sync::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, constructor, filled, local, shared,
};
use super::version::Header;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

/// How deep calls may nest on one thread, over all slots and hosts.
pub const MAX_CHAIN_DEPTH: usize = if cfg!(loom) { 3 } else { 64 };
/// How many threads may be known at once; bounds the numbers in chain tokens.
pub const MAX_THREADS: usize = 1 << 18;

/// In the lowest hazard of [`UNREGISTERED`]: no version, and yet not empty.
const CLOSED: *mut Header = ptr::without_provenance_mut(2);
const _: () = assert!(align_of::<Header>() > 2, "the marks of a hazard are in bits that no address has");
/// How often an ending thread looks for versions that its own destructors
/// called into, before it writes the rest off.
const EXIT_ROUNDS: usize = 8;

/// One thread's hazards and counters.
#[repr(C, align(128))]
pub(super) struct ThreadRecord {
    /// Where calls that are not inside of another count: in `own`, or in a table of
    /// zeros while the thread is asked to detach from drained versions. A count of
    /// zero sends a call down the cold path, where that is done.
    table: AtomicPtr<Entry>,
    own: NonNull<Entry>,
    /// The lowest is null while no call is there. One comparison thereby covers calls
    /// that nest, a thread without a record and a process without membarrier; and a
    /// call's own hazard is all that says that it is there.
    hazards: [AtomicPtr<Header>; MAX_CHAIN_DEPTH],

    // Cold from here on.
    /// Frames on the stack above the lowest.
    nested: AtomicUsize,
    parents: [AtomicU64; MAX_CHAIN_DEPTH],
    token_sequence: AtomicU64,
    highest: AtomicUsize,
    thread: AtomicU32,
    number: u32,
    settling: AtomicBool,
    in_use: AtomicBool,
    next: AtomicPtr<ThreadRecord>,
}

// SAFETY: `own` points to entries of atomics that are never freed; every
// other field is an atomic, or constant once the record is in the list.
unsafe impl Sync for ThreadRecord {}
// SAFETY: as above; nothing in it is bound to a thread but the convention of
// who writes, which the atomics make harmless.
unsafe impl Send for ThreadRecord {}

/// The hot path's view.
impl ThreadRecord {
    /// This thread's record if it may take the hot path, or [`UNREGISTERED`], which is
    /// closed.
    #[inline(always)]
    pub(super) fn hot() -> &'static ThreadRecord {
        // SAFETY: the cell only ever holds the address of `UNREGISTERED` or of
        // a record, and neither is ever freed.
        unsafe { &*HOT.with(Cell::get) }
    }

    /// Whether a call would be the lowest of this thread, on the hot path.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        // Relaxed: the thread's own, or a constant.
        self.hazards[0].load(Ordering::Relaxed).is_null()
    }

    /// The hazard at `depth`.
    ///
    /// # Safety
    /// `depth` is less than [`MAX_CHAIN_DEPTH`].
    #[inline(always)]
    pub(super) unsafe fn hazard(&self, depth: usize) -> &AtomicPtr<Header> {
        // SAFETY: the caller keeps `depth` in bounds.
        unsafe { self.hazards.get_unchecked(depth) }
    }

    /// Counts the frame at `depth`, whose hazard is set.
    #[inline(always)]
    pub(super) fn push(&self, depth: usize) {
        if depth > 0 {
            // Relaxed: only the watchdog reads it from elsewhere, as a hint.
            self.nested.store(depth, Ordering::Relaxed);
        }
    }

    /// Gives up the frame at `depth`.
    ///
    /// # Safety
    /// `depth` is less than [`MAX_CHAIN_DEPTH`].
    #[inline(always)]
    pub(super) unsafe fn pop(&self, depth: usize) {
        // SAFETY: the caller keeps `depth` in bounds.
        unsafe { self.empty(depth) };
        if depth > 0 {
            self.nested.store(depth - 1, Ordering::Relaxed);
        }
    }

    /// Empties the place at `depth`, which a failed attempt may have filled.
    ///
    /// # Safety
    /// As for [`pop`](Self::pop).
    #[inline(always)]
    pub(super) unsafe fn empty(&self, depth: usize) {
        // SAFETY: the caller keeps `depth` in bounds.
        // Release: partner is the Acquire in `frames`; who sees the call gone sees
        // all that it did.
        unsafe { self.hazard(depth) }.store(ptr::null_mut(), Ordering::Release);
    }

    /// The count of this thread's calls on the version whose entry starts `offset`
    /// bytes into the table: zero before the first, and while the thread is asked to
    /// detach and the call is not inside of another.
    ///
    /// # Safety
    /// `offset` is a version's: an index below `MAX_VERSIONS`, in bytes.
    #[inline(always)]
    pub(super) unsafe fn calls_at(&self, depth: usize, offset: usize) -> &AtomicU64 {
        // Relaxed: either table was made before this thread knew of the record.
        let table = if depth == 0 { self.table.load(Ordering::Relaxed) } else { self.own.as_ptr() };
        // SAFETY: each table has an entry for every index and is never freed.
        unsafe { &(*table.byte_add(offset)).calls }
    }

    /// The thread's own entry that starts `offset` bytes into the table.
    ///
    /// # Safety
    /// As for [`calls_at`](Self::calls_at).
    #[inline(always)]
    pub(super) unsafe fn entry_at(&self, offset: usize) -> &Entry {
        // SAFETY: the table has an entry for every index and is never freed.
        unsafe { self.own.byte_add(offset).as_ref() }
    }
}

/// The cold view, by this thread and by others.
impl ThreadRecord {
    /// This thread's record, or [`UNREGISTERED`].
    pub(super) fn current() -> &'static ThreadRecord {
        // SAFETY: as in `hot`.
        unsafe { &*CURRENT.with(Cell::get) }
    }

    /// Every record there is, also those without a thread.
    ///
    /// A record that is added meanwhile may be missed, and may be: its thread
    /// announced itself after the caller's barrier, so it finds the new
    /// pointer when it validates.
    pub(super) fn all() -> impl Iterator<Item = &'static ThreadRecord> {
        // Acquire: partner is the Release in `push`.
        // SAFETY: the list holds records only, and they are never freed.
        let first = unsafe { RECORDS.load(Ordering::Acquire).as_ref() };
        std::iter::successors(first, |record| {
            // SAFETY: as above. Relaxed: constant since before the push.
            unsafe { record.next.load(Ordering::Relaxed).as_ref() }
        })
    }

    /// The record of a chain token, whether or not its thread still lives.
    pub(super) fn by_number(number: u32) -> Option<&'static ThreadRecord> {
        Self::all().find(|record| record.number == number)
    }

    /// Where the hazard of a call inside of another goes, of a thread that may take
    /// the hot path.
    pub(super) fn place_inside(&self) -> Option<usize> {
        let depth = self.depth();
        (depth > 0 && depth < MAX_CHAIN_DEPTH).then_some(depth)
    }

    /// Frames on the stack. A place that is filled, but not pushed yet, may be
    /// counted if it is the lowest.
    pub(super) fn depth(&self) -> usize {
        if untagged(self.hazards[0].load(Ordering::Relaxed)).is_null() {
            return 0;
        }
        1 + self.nested.load(Ordering::Relaxed)
    }

    /// The kernel's id of the thread, 0 while no thread has the record.
    pub(super) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn is_registered(&self) -> bool {
        self.number != 0
    }

    pub(super) fn entry(&self, index: usize) -> &Entry {
        assert!(index < MAX_VERSIONS, "version indices are dense");
        // SAFETY: the index is in bounds.
        unsafe { self.entry_at(index * size_of::<Entry>()) }
    }

    /// The stack from the bottom up to the first empty place.
    ///
    /// Nothing stands above an empty place: frames nest. So a frame that is
    /// there from the beginning of the walk to its end is seen.
    pub(super) fn frames(&self) -> impl Iterator<Item = *mut Header> {
        self.hazards
            .iter()
            // Acquire: partner is every store into a hazard, all of them
            // Release: who sees a frame gone, or overwritten by a later one,
            // sees all that the call did.
            .map(|hazard| untagged(hazard.load(Ordering::Acquire)))
            .take_while(|frame| !frame.is_null())
    }

    /// The chain tokens that this thread's calls came with, the one that it
    /// is about to make included.
    pub(super) fn parents(&self) -> impl Iterator<Item = ChainToken> {
        self.parents
            .iter()
            // Acquire: partner is the Release in `set_parent`; keeps what
            // follows, the check of the root call, behind it.
            .map(|parent| ChainToken::from_raw(parent.load(Ordering::Acquire)))
            .filter(|parent| !parent.is_root())
    }

    /// Sets what the frame at `depth` was called with; root for none.
    pub(super) fn set_parent(&self, depth: usize, token: ChainToken) {
        self.parents[depth].store(token.to_raw(), Ordering::Release);
    }

    /// The token with which the frame at `depth` was entered.
    pub(super) fn parent(&self, depth: usize) -> ChainToken {
        ChainToken::from_raw(self.parents[depth].load(Ordering::Relaxed))
    }

    /// Marks the running root call as one that somebody holds a token of, and
    /// returns its number. Owner only, inside of a call.
    ///
    /// The mark sits in the hazard of the root frame, so it vanishes with it:
    /// calls that nobody asked a token of pay nothing.
    pub(super) fn tag_root(&self) -> u64 {
        let root = self.hazards[0].load(Ordering::Relaxed);
        let sequence = self.token_sequence.load(Ordering::Relaxed);
        if root.addr() & TAG != 0 {
            return sequence;
        }
        // Release on both, in this order: who sees the tag sees its number.
        self.token_sequence.store(sequence + 1, Ordering::Release);
        self.hazards[0].store(root.map_addr(|address| address | TAG), Ordering::Release);
        sequence + 1
    }

    /// Whether the root call with this number is still running.
    pub(super) fn runs_root(&self, sequence: u64) -> bool {
        // The tag first, its number second: if the number still is the
        // token's, the tag was the token's as well.
        self.hazards[0].load(Ordering::Acquire).addr() & TAG != 0
            && self.token_sequence.load(Ordering::Acquire) == sequence
    }

    /// Remembers that this thread runs code of the version at `index`.
    pub(super) fn attach(&self, index: usize) {
        self.entry(index).attach();
        if index > self.highest.load(Ordering::Relaxed) {
            self.highest.store(index, Ordering::Relaxed);
        }
    }

    /// Asks the thread to come by the cold path with its next call, and detach there.
    pub(super) fn kick(&self) {
        // AcqRel: partner is the swap in `settle`, which thereby sees the
        // version marked as detachable. A swap and not a store, so that two
        // who kick are both seen.
        self.table.swap(counters::zeros().as_ptr(), Ordering::AcqRel);
    }

    /// Detaches this thread from drained versions, if it was asked to and is
    /// outside of any call. Owner only.
    pub(super) fn settle(&'static self) {
        let is_kicked = self.table.load(Ordering::Relaxed) != self.own.as_ptr();
        if !is_kicked || self.depth() != 0 || self.settling.swap(true, Ordering::Relaxed) {
            return;
        }
        // Partner: `kick`. Who kicks after this is served the next time.
        self.table.swap(self.own.as_ptr(), Ordering::AcqRel);
        self.detach_where(index::is_detachable);
        self.settling.store(false, Ordering::Relaxed);
    }

    /// Runs the thread-local destructors of the versions that `choose` picks;
    /// returns how many versions were left.
    fn detach_where(&self, choose: impl Fn(usize) -> bool) -> usize {
        let mut left = 0;
        for index in 1..=self.highest.load(Ordering::Relaxed) {
            if self.entry(index).is_claimable() && choose(index) {
                left += usize::from(self.detach(index));
            }
        }
        left
    }

    fn detach(&self, index: usize) -> bool {
        let Some(claim) = self.entry(index).claim() else {
            return false;
        };
        // SAFETY: the claim came first, so the version cannot be finished
        // until it is given back: the index still is this version's.
        let header = unsafe { index::pinned(index) };
        // Plugin code, on the thread that it belongs to, outside of any call.
        // If it panics, nobody knows how far it came: the claim is not given
        // back, so the version stays in memory, safe and visibly attached.
        // SAFETY: claimed until `settle`; drained, or the thread ends, so this
        // thread does not come back.
        let ran = catch_unwind(AssertUnwindSafe(|| unsafe { Header::detach_thread(header) }));
        if let Ok(destructors) = ran {
            // SAFETY: likewise.
            let header = unsafe { header.as_ref() };
            header.shared().add_destructors(destructors);
            claim.settle(header);
        }
        true
    }

    /// Ends the thread's use of the record.
    fn release(&'static self) {
        if self.depth() != 0 {
            // The thread ends inside of a call, so the call's frames will
            // never be popped: the record has to go on telling of them.
            return;
        }
        self.settling.store(true, Ordering::Relaxed);
        for _ in 0..EXIT_ROUNDS {
            if self.detach_where(|_| true) == 0 {
                break;
            }
        }
        for index in 1..=self.highest.load(Ordering::Relaxed) {
            if let Some(claim) = self.entry(index).claim() {
                // SAFETY: claimed, as in `detach`.
                claim.settle(unsafe { index::pinned(index).as_ref() });
            }
        }
        for cell in [&HOT, &CURRENT] {
            cell.with(|current| current.set(ptr::from_ref::<ThreadRecord>(&UNREGISTERED)));
        }
        self.highest.store(0, Ordering::Relaxed);
        self.thread.store(0, Ordering::Relaxed);
        self.settling.store(false, Ordering::Relaxed);
        // Release: partner is the Acquire in `acquire`.
        self.in_use.store(false, Ordering::Release);
    }

    constructor! {
        fn new(number: u32, own: NonNull<Entry>) -> Self {
            let mut hazards = filled![AtomicPtr::new(ptr::null_mut()); MAX_CHAIN_DEPTH];
            if number == 0 {
                hazards[0] = AtomicPtr::new(CLOSED);
            }
            ThreadRecord {
                table: AtomicPtr::new(own.as_ptr()),
                own,
                hazards,
                nested: AtomicUsize::new(0),
                parents: filled![AtomicU64::new(0); MAX_CHAIN_DEPTH],
                token_sequence: AtomicU64::new(0),
                highest: AtomicUsize::new(0),
                thread: AtomicU32::new(0),
                number,
                settling: AtomicBool::new(false),
                in_use: AtomicBool::new(true),
                next: AtomicPtr::new(ptr::null_mut()),
            }
        }
    }
}

/// This thread's record for the time of one cold call.
pub(super) struct Here {
    pub(super) record: &'static ThreadRecord,
    /// The thread's own destructors ran already, so nothing would give the
    /// record back later: it is given back with this.
    transient: bool,
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.transient {
            self.record.release();
        }
    }
}

/// This thread's record; the first call on a thread takes one.
pub(super) fn here() -> Result<Here, Refused> {
    let current = ThreadRecord::current();
    if current.is_registered() {
        return Ok(Here { record: current, transient: false });
    }
    let record = acquire().ok_or(Refused::TooManyThreads)?;
    record.thread.store(thread_id(record), Ordering::Relaxed);
    CURRENT.with(|current| current.set(record));
    match barrier::kind() {
        BarrierKind::Membarrier | BarrierKind::Lost => HOT.with(|hot| hot.set(record)),
        // The hot path has no fence of its own, so nobody may take it.
        BarrierKind::Fence => {}
    }
    let transient = AT_EXIT.try_with(|exit| exit.0.set(Some(record))).is_err();
    Ok(Here { record, transient })
}

/// Detaches this thread from versions that were retired and have drained.
///
/// Calls do this by themselves when they are asked to. Threads that rarely
/// call, like a host's own loops, call this now and then so that nothing has
/// to wait for them. Inside of a call it does nothing.
pub fn pass_by() {
    // A thread without a record is attached to nothing.
    let current = ThreadRecord::current();
    if current.is_registered() {
        current.settle();
    }
}

/// The low bit of a root frame's hazard: somebody holds a token of it.
const TAG: usize = 1;

/// The version of a frame; null for `CLOSED`, which is none.
fn untagged(hazard: *mut Header) -> *mut Header {
    const MARKS: usize = align_of::<Header>() - 1;
    hazard.map_addr(|address| address & !MARKS)
}

shared! {
    /// Stands for "no record yet": a thread that finds it takes the cold path.
    static UNREGISTERED: ThreadRecord = ThreadRecord::new(0, NonNull::dangling());
    /// The newest record; the others hang from it.
    static RECORDS: AtomicPtr<ThreadRecord> = AtomicPtr::new(ptr::null_mut());
    /// How many records there are; numbers start at 1.
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
}

local! {
    /// The thread's record while it may take the hot path. No destructor, so that
    /// reading it is one load, at any time of a thread's life.
    static HOT: Cell<*const ThreadRecord> = Cell::new(ptr::from_ref::<ThreadRecord>(&UNREGISTERED));
    /// The thread's record.
    static CURRENT: Cell<*const ThreadRecord> = Cell::new(ptr::from_ref::<ThreadRecord>(&UNREGISTERED));
    /// Its destructor ends the use of the record. Touched only in `here`.
    static AT_EXIT: AtExit = AtExit(Cell::new(None));
}

struct AtExit(Cell<Option<&'static ThreadRecord>>);

#[cfg(not(loom))]
impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(record) = self.0.get() {
            record.release();
        }
    }
}

/// What the end of a thread does. In a model the thread calls this itself: loom
/// drops a thread's locals only after it was joined, and all of them at once.
#[cfg(all(test, loom))]
pub(super) fn end_thread() {
    if let Some(record) = AT_EXIT.with(|exit| exit.0.take()) {
        record.release();
    }
}

fn acquire() -> Option<&'static ThreadRecord> {
    let free = ThreadRecord::all().find(|record| {
        // Acquire: partner is the Release in `release`.
        !record.in_use.load(Ordering::Relaxed)
            && record.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    });
    free.or_else(push)
}

fn push() -> Option<&'static ThreadRecord> {
    let next_number = |count: u32| ((count as usize) < MAX_THREADS).then_some(count + 1);
    let count = NUMBERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next_number).ok()?;
    let record: &'static ThreadRecord = Box::leak(Box::new(ThreadRecord::new(count + 1, new_table()?)));
    let mut first = RECORDS.load(Ordering::Relaxed);
    loop {
        record.next.store(first, Ordering::Relaxed);
        // Release: partner is the Acquire in `all`. The list is a chain of
        // such swaps, so who sees the newest record sees the older ones.
        match RECORDS.compare_exchange_weak(
            first,
            ptr::from_ref(record).cast_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => return Some(record),
            Err(now) => first = now,
        }
    }
}

fn thread_id(record: &ThreadRecord) -> u32 {
    if cfg!(any(miri, loom)) {
        return record.number;
    }
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { libc::gettid() }.cast_unsigned()
}
