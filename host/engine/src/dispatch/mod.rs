//! Dispatch: which version a call enters, and when a version may go.
//!
//! The core publishes versions of a plugin in [slots](Slot), counts the calls
//! that enter them, and finds out when nobody is in an old one any more. It is
//! generic over a [`Payload`] and knows nothing of libraries, files or hooks.
//! It reads no clock (a test sees to that), starts no thread, and never waits,
//! but for calls at a closed [gate](Slot::close).
//!
//! # Theory of operation
//!
//! **Calls.** Each thread has a record with a stack of hazards, one per nesting
//! depth. A call stores the live pointer into the lowest hazard, looks whether
//! it is still live, adds one to the thread's own counter for that version,
//! and runs. One question guards the way in, whether that hazard is empty: it is
//! not inside of another call, whose place is the next one up; and for a thread
//! without a record and in a process without membarrier it never is. So the hazard
//! is all that a call writes about itself, and nobody else writes it. A counter of
//! zero is the other way out: the thread's first call on a version; a marker (no
//! version, closed gate, split), whose counters are never raised; or a thread that
//! others make come by the cold path, by giving it a table of zeros (a kick).
//!
//! **Publishing** stores the pointer, issues the heavy barrier, and only then
//! may hazards be read: a call that is not seen there has not validated yet,
//! and will find the new pointer.
//!
//! **Splits.** While two versions share a slot, it publishes a marker in their
//! place, and each of them in an arm beside it. A call that finds the marker
//! chooses an arm, and is to the arm's pointer what another is to the live one.
//! At the end of a split the live pointer is stored first, the arms are emptied
//! second, and the barrier comes third: whoever finds an arm empty finds a live
//! version, and whoever found one in it is seen.
//!
//! **Leaving.** A version goes through typed states, each with the operations
//! that are sound in it:
//!
//! ```text
//! Version ──publish──► in a slot ──replaced──► Retired ──► Drained ──► Finished
//!    ▲                    │  ▲                    │           │
//!    │                 close reopen               │           │
//!    │                    ▼  │                    │           │
//!    │                  Closed ──seal──► Sealed ──open        │
//!    └───────────────────────── revive ───────────┘
//! ```
//!
//! | state | calls | leases | threads attached |
//! |---|---|---|---|
//! | in a slot, or in an arm of one | begin | are taken | more and more |
//! | closed | of chains in flight begin | likewise | |
//! | sealed, retired | finish | are dropped | |
//! | drained | none | none | detach: on their next call anywhere that is not inside of another, at [`pass_by`], at their end; or are abandoned |
//! | finished | | | none |
//!
//! Whatever handle is dropped on the way leaves its version in memory. Code
//! that somebody might still run is never freed by accident, only by
//! [`Drained::finish`].
//!
//! # Orderings and their partners
//!
//! | store | with | is seen by | so that |
//! |---|---|---|---|
//! | `Slot::live` (`replace`, `close`, reopening) | swap, AcqRel | Acquire in `protect` | the version's content is there |
//! | arms (`set`, `clear`), around the marker's swap | Release | Acquire in `protect` | likewise; an empty arm means that the marker is gone |
//! | hazard := version, then `light` | Release, compiler fence (hot) or SeqCst fence (cold) | `heavy`, then Acquire in `frames` | the hazard is found, or the new pointer is |
//! | hazard := null, or a later frame's | Release | Acquire in `frames` | all that the call did is done; every store is a Release, so one that hides another orders it too |
//! | barrier issued (`HeavyOnce`) | Release | Acquire, by others who look | they look at hazards after it too |
//! | lease + 1, before the hazard is cleared | Relaxed | hazards first, leases second | one of the two is seen |
//! | lease − 1 | Release | Acquire in `leases` | the holder is done |
//! | a chain's hazard at a closed gate | under the slot's lock | `seal`, under it | after sealing, none is missed |
//! | entry: attached | Relaxed | after the drain's Acquire | every thread that ran the version is known |
//! | entry: claimed | compare-exchange, Acquire | the other claimant's | detach and abandon exclude each other |
//! | entry: given back | Release | Acquire in `is_attached` | destructors are done, counts folded |
//! | version detachable, then kick | Release, swap AcqRel on `table` | swap AcqRel in `settle` | who is kicked knows what for |
//! | root tag's number, then the tag | Release | tag, then number, Acquire | a number that fits fits the tag |
//! | record into the list | compare-exchange, AcqRel | Acquire in `all` | its fields are there |
//! | record free | Release | compare-exchange, Acquire in `acquire` | the thread before is done with it |
//!
//! That these suffice is tried by the models in `models/`, which run this code
//! in every order that they allow; each says what it fails without.
//!
//! # What stays in memory
//!
//! A record per thread that ever lived at the same time (1.2 KiB, plus a page
//! of counters per 128 versions in use), never freed.
//!
//! Not covered: fork without exec while calls are in flight (the child's
//! copies of them never return), signal handlers that call, and coroutines
//! that leave a closure on one thread to come back on another.

#![deny(clippy::disallowed_methods)] // clocks: see clippy.toml

pub mod barrier;
mod chain;
mod counters;
mod frame;
mod gate;
mod index;
mod lease;
mod record;
mod retire;
mod route;
mod slot;
mod split;
mod sync;
mod version;
mod watch;

pub use chain::{ChainToken, current_chain};
pub use counters::Counters;
pub use frame::Entered;
pub(crate) use frame::Running;
pub(crate) use gate::wake;
pub use gate::{Closed, GatePlace, GateRefused, Sealed};
pub use index::MAX_VERSIONS;
pub use lease::{Holder, Lease};
pub use record::{MAX_CHAIN_DEPTH, MAX_THREADS, pass_by};
pub use retire::{Drained, InFlight, Retired};
pub use route::{Arm, Route, Share};
pub use slot::{NotPublished, Refused, Slot, SlotState};
pub use split::NotSplit;
pub use version::{Finished, Outside, Payload, Version, VersionId, VersionsExhausted};
pub use watch::{Scan, StuckCall};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod split_tests;
#[cfg(all(test, not(loom)))]
mod gate_tests;
#[cfg(all(test, not(loom)))]
mod tests;
