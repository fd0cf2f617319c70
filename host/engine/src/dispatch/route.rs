//! Routing: to which of two versions a call goes while both serve.
//!
//! A slot that is [split](super::Slot::split) publishes a marker in place of a
//! version, so that calls on a slot that is not split pay nothing for it. A
//! call that finds the marker chooses an arm here, without a lock, a clock or a
//! shared store: by its key, by its thread's own sequence, or as it was told.
//! This file only chooses; `split.rs` puts versions into the arms.

use super::counters::Entry;
use super::record::ThreadRecord;
use super::slot::{ABSENT, marker};
use super::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, constructor, fence};
use super::version::{Header, Owned};
use twox_hash::XxHash3_64;

/// Bytes of a key whose XXH3 takes no secret of the seed
/// (`XXH3_MIDSIZE_MAX` of the reference implementation).
const LENGTH_WITHOUT_SECRET_MAX: usize = 240;

/// The whole, in basis points.
const WHOLE: u32 = 10_000;

/// How much of the calls goes to the challenger, in basis points: hundredths of
/// a percent.
///
/// ```
/// use replug_host::dispatch::Share;
///
/// let share = Share::from_basis_points(500).expect("at most 10,000");
/// assert_eq!(share.to_string(), "5.00 %");
/// assert!(Share::from_basis_points(10_001).is_none());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// No call but those that are told to.
    pub const NONE: Share = Share(0);
    /// Every call but those that are told not to.
    pub const ALL: Share = Share(WHOLE as u16);

    /// None above 10,000.
    pub const fn from_basis_points(basis_points: u16) -> Option<Share> {
        if basis_points as u32 <= WHOLE { Some(Share(basis_points)) } else { None }
    }

    /// The share in basis points.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// Whether a key's call goes to the challenger.
    ///
    /// A key that does so at one share does so at every greater one, as long as
    /// the seed is the same.
    pub fn takes(self, key: &[u8], seed: u64) -> bool {
        bucket(key, seed) < u32::from(self.0)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

/// One of the two versions of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arm {
    /// The one that served before.
    Baseline,
    /// The one that is being tried.
    Challenger,
}

/// How a call chooses its arm while its slot is split. Without a split it means
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'k> {
    /// By a sequence of the calling thread: of its next `n` calls by sequence
    /// the challenger gets `n` times the share, to within one.
    Sequence,
    /// By the hash of a key (XXH3, 64 bits, seeded by the split): all calls with
    /// one key go to one arm, and go over to the challenger once, as its share
    /// grows.
    Key(&'k [u8]),
    /// As told, whatever the share.
    Arm(Arm),
}

/// The place of a key among 10,000, uniform over keys.
#[inline]
fn bucket(key: &[u8], seed: u64) -> u32 {
    // The upper half of a product is below its second factor.
    ((u128::from(hash(key, seed)) * u128::from(WHOLE)) >> 64) as u32
}

/// XXH3, 64 bits.
#[inline(never)]
fn hash(key: &[u8], seed: u64) -> u64 {
    if key.len() > LENGTH_WITHOUT_SECRET_MAX {
        return hash_long(key, seed);
    }
    // The same by XXH3's definition, which mixes the secret of a seed in with
    // longer keys only; without making that secret first.
    XxHash3_64::oneshot_with_seed_and_secret(seed, &[], key).unwrap_or_else(|_| hash_long(key, seed))
}

/// Apart, so that its secret takes no place on the stack of other calls.
#[cold]
#[inline(never)]
fn hash_long(key: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, key)
}

/// The versions and the share of a slot's split; what it says counts only while
/// the slot publishes the marker.
pub(super) struct Table {
    baseline: AtomicPtr<Header>,
    challenger: AtomicPtr<Header>,
    share: AtomicU32,
    seed: AtomicU64,
    /// Where the challenger's entry starts in each thread's table, which is
    /// where the thread keeps its sequence.
    offset: AtomicUsize,
}

impl Table {
    constructor! {
        pub(super) fn new() -> Self {
            Table {
                baseline: AtomicPtr::new((&raw const ABSENT).cast_mut()),
                challenger: AtomicPtr::new((&raw const ABSENT).cast_mut()),
                share: AtomicU32::new(0),
                seed: AtomicU64::new(0),
                offset: AtomicUsize::new(0),
            }
        }
    }

    /// Fills the table; the marker is published after.
    pub(super) fn set<P>(&self, baseline: &Owned<P>, challenger: &Owned<P>, share: Share, seed: u64) {
        // Relaxed but for the pointers: the marker is stored after, with
        // Release, and whoever comes here loaded it with Acquire. One who is
        // late from an earlier split may choose by half of each; it enters a
        // version that serves all the same.
        self.offset.store(challenger.header().offset(), Ordering::Relaxed);
        self.seed.store(seed, Ordering::Relaxed);
        self.set_share(share);
        // Release: partner is the Acquire in `protect`, as for the live pointer.
        self.baseline.store(baseline.as_header().as_ptr(), Ordering::Release);
        self.challenger.store(challenger.as_header().as_ptr(), Ordering::Release);
    }

    pub(super) fn set_share(&self, share: Share) {
        self.share.store(u32::from(share.0), Ordering::Relaxed);
    }

    pub(super) fn share(&self) -> Share {
        // Only ever stored from a share.
        Share(self.share.load(Ordering::Relaxed) as u16)
    }

    /// Takes both versions out. The marker was replaced before: who finds an arm
    /// empty finds what is live now.
    pub(super) fn clear(&self) {
        // Release: partner is the Acquire in `protect`; who finds an arm empty
        // finds the live pointer replaced. That calls are either seen in a
        // hazard or see this is the work of the barrier in `Retired`.
        self.baseline.store(marker(&ABSENT), Ordering::Release);
        self.challenger.store(marker(&ABSENT), Ordering::Release);
    }

    /// The arm of this thread's next call, which has found the marker of a split.
    /// A sequence takes one step.
    #[inline(always)]
    pub(super) fn choose(&self, route: Route<'_>, record: &ThreadRecord) -> Arm {
        // Before the fence, which would have the route read from memory again.
        let key = match route {
            Route::Arm(arm) => return arm,
            Route::Key(key) => Some(key),
            Route::Sequence => None,
        };
        // Acquire: partner is the swap in `split`, whose marker was found; shows
        // the table.
        fence(Ordering::Acquire);
        let share = self.share.load(Ordering::Relaxed);
        let challenger = match key {
            Some(key) => bucket(key, self.seed.load(Ordering::Relaxed)) < share,
            None => {
                // SAFETY: the offset of a version's header, or zero.
                let entry: &Entry = unsafe { record.entry_at(self.offset.load(Ordering::Relaxed)) };
                entry.take_turn(share, WHOLE, record.number())
            }
        };
        if challenger { Arm::Challenger } else { Arm::Baseline }
    }

    /// Where an arm's version is published.
    #[inline]
    pub(super) fn arm(&self, arm: Arm) -> &AtomicPtr<Header> {
        match arm {
            Arm::Baseline => &self.baseline,
            Arm::Challenger => &self.challenger,
        }
    }
}
