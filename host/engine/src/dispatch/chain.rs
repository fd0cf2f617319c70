//! Chains: which calls were caused by which.
//!
//! A closed gate lets a call pass if its chain is already in the version
//! behind the gate. On one thread the hazard stack says so. Across threads and
//! awaits a [`ChainToken`] does: it names a root call that is running on some
//! thread, or a lease, and both lead on to what they were made for.
//!
//! A token is a hint and no more. The version that a call enters is kept in
//! memory by the gate's lock and its own hazard, never by a token; so a token
//! that is stale or made up can at worst let its caller pass a gate or wait at
//! one.

use super::lease;
use super::record::{MAX_CHAIN_DEPTH, MAX_THREADS, ThreadRecord};
use super::slot::Refused;
use super::version::Header;
use std::ptr::NonNull;

/// Names a call in flight, for calls that it causes on other threads or in
/// async tasks. It may cross the ABI as a plain number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ChainToken(u64);

/// Set in tokens of leases; the rest is the lease's id.
const LEASE: u64 = 1 << 63;
/// Tokens of calls: the record's number above, the root call's number below.
const SEQUENCE_BITS: u32 = 44;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const _: () = assert!((MAX_THREADS as u64) << SEQUENCE_BITS < LEASE);

impl ChainToken {
    /// No call: what is made with it is a root call.
    pub const ROOT: ChainToken = ChainToken(0);

    /// The token as a number; 0 for root.
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// The token back from its number. Every number is safe.
    pub const fn from_raw(raw: u64) -> Self {
        ChainToken(raw)
    }

    /// Whether it names no call.
    pub const fn is_root(self) -> bool {
        self.0 == 0
    }

    pub(super) fn of_lease(id: u64) -> Self {
        ChainToken(LEASE | id)
    }

    fn of_call(record: &ThreadRecord) -> Self {
        let sequence = record.tag_root() & SEQUENCE_MASK;
        ChainToken(u64::from(record.number()) << SEQUENCE_BITS | sequence)
    }

    fn target(self) -> Target {
        match self.0 {
            0 => Target::Root,
            raw if raw & LEASE != 0 => Target::Lease(raw & !LEASE),
            raw => Target::Call {
                record: u32::try_from(raw >> SEQUENCE_BITS).expect("63 bits less 44"),
                sequence: raw & SEQUENCE_MASK,
            },
        }
    }

    /// Makes the next frame of this thread part of the token's chain, until
    /// the link is dropped.
    pub(super) fn link(self, record: &'static ThreadRecord) -> Result<Link, Refused> {
        let depth = record.depth();
        if depth >= MAX_CHAIN_DEPTH {
            return Err(Refused::Depth);
        }
        let before = record.parent(depth);
        record.set_parent(depth, self);
        Ok(Link { record, depth, before })
    }
}

/// The token of the call that is running on this thread; root outside of any.
///
/// Inside of [`Lease::enter`](super::Lease::enter) it is the lease's, which
/// lives for as long as the lease. Elsewhere it lives until the outermost call
/// on this thread returns.
pub fn current_chain() -> ChainToken {
    let record = ThreadRecord::current();
    let depth = record.depth();
    if depth == 0 {
        return ChainToken::ROOT;
    }
    let innermost = depth - 1;
    let parent = record.parent(innermost);
    if let Target::Lease(id) = parent.target()
        && let Some((version, _)) = lease::linked(id)
        && record.frames().nth(innermost).map(<*mut Header>::addr) == Some(version)
    {
        return parent;
    }
    ChainToken::of_call(record)
}

/// Whether the call that this thread is about to make is caused by one that is
/// in the version.
pub(super) fn is_in(record: &ThreadRecord, version: NonNull<Header>) -> bool {
    let mut steps = MAX_CHAIN_DEPTH;
    stack_is_in(record, version.addr().get(), &mut steps)
}

/// The chain that a frame was put into; dropping it takes the frame's place
/// out again.
pub(super) struct Link {
    record: &'static ThreadRecord,
    depth: usize,
    before: ChainToken,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.record.set_parent(self.depth, self.before);
    }
}

enum Target {
    Root,
    Call { record: u32, sequence: u64 },
    Lease(u64),
}

/// A thread's frames, and all that they were called on behalf of.
fn stack_is_in(record: &ThreadRecord, version: usize, steps: &mut usize) -> bool {
    record.frames().any(|frame| frame.addr() == version)
        || record.parents().any(|parent| token_is_in(parent, version, steps))
}

fn token_is_in(token: ChainToken, version: usize, steps: &mut usize) -> bool {
    // Tokens of running calls can form a cycle.
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    match token.target() {
        Target::Root => false,
        Target::Lease(id) => lease::linked(id)
            .is_some_and(|(held, parent)| held == version || token_is_in(parent, version, steps)),
        Target::Call { record, sequence } => {
            // Its stack first, whether it still runs second: then the stack
            // was the root call's own.
            ThreadRecord::by_number(record)
                .is_some_and(|record| stack_is_in(record, version, steps) && record.runs_root(sequence))
        }
    }
}
