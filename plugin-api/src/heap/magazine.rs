//! Owns a thread's private stock of slots, and the books of what that thread
//! allocated and freed.
//!
//! Only the owner changes a magazine, so plain loads and stores suffice; they
//! are atomic, and relaxed, because the host reads the books meanwhile.

use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::depot::{Depot, Slot};

/// Slots in a full magazine: with the three words of the books, 512 bytes.
const CAPACITY: usize = 61;
/// How full a magazine is after an exchange with the depot: as far from the
/// next one as it can be, whichever way the thread goes.
const HALF: usize = CAPACITY / 2;

/// Nobody's: no thread has this tag.
const NOBODY: usize = 0;
/// Nobody's, for ever: neither has a thread this one.
const SEALED: usize = usize::MAX;

/// One thread's stock of slots, and its share of the books.
///
/// Aligned to two cache lines, as processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Magazine {
    /// The owner's [tag](super::thread_tag).
    owner: AtomicUsize,
    /// What the owners allocated less what they freed, in bytes. Wraps below
    /// zero when they freed what others allocated: only the sum over all
    /// magazines and the depot means something.
    bytes: AtomicUsize,
    /// How many of `slots` are there.
    stock: AtomicUsize,
    slots: [AtomicPtr<Slot>; CAPACITY],
}

impl Magazine {
    pub(super) const fn new() -> Self {
        Self {
            owner: AtomicUsize::new(NOBODY),
            bytes: AtomicUsize::new(0),
            stock: AtomicUsize::new(0),
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; CAPACITY],
        }
    }

    /// Whether the magazine belongs to the thread of `tag`.
    ///
    /// Relaxed suffices: the answer is yes only if this very thread claimed it
    /// (its own earlier store), or a dead one with the same tag did, whose last
    /// writes libc orders before it reuses the thread's memory, this tag.
    #[inline(always)]
    pub(super) fn is_owned_by(&self, tag: usize) -> bool {
        self.owner.load(Relaxed) == tag
    }

    /// Makes the magazine the calling thread's if it is nobody's.
    pub(super) fn claim(&self, tag: usize) -> bool {
        // Acquire: partner of the Release in `give_up`. The previous owner's
        // changes to stock and books come before ours.
        self.owner.compare_exchange(NOBODY, tag, Acquire, Relaxed).is_ok()
    }

    /// Returns the stock to the depot and the magazine to nobody. The books
    /// stay: the next owner carries them on. For the owner only.
    pub(super) fn give_up(&self, depot: &mut Depot) {
        while let Some(slot) = self.pop() {
            depot.put(slot);
        }
        // Release: partner of the Acquire in `claim`.
        self.owner.store(NOBODY, Release);
    }

    /// Takes the magazine from its owner, and lets nobody claim it again: all
    /// threads work at the depot from here on. The stock and the books stay.
    ///
    /// For when no thread is in the plugin. Relaxed suffices: whoever comes
    /// after is let in by what the caller does next, under the loader's lock.
    pub(super) fn seal(&self) {
        self.owner.store(SEALED, Relaxed);
    }

    /// Takes a slot out, if there is one. For the owner only.
    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<Slot>> {
        let rest = self.stock.load(Relaxed).checked_sub(1)?;
        let slot = self.slots.get(rest)?.load(Relaxed);
        self.stock.store(rest, Relaxed);
        NonNull::new(slot)
    }

    /// Puts a slot in, if there is room. For the owner only.
    #[inline(always)]
    #[must_use]
    pub(super) fn push(&self, slot: NonNull<Slot>) -> bool {
        let stock = self.stock.load(Relaxed);
        let Some(place) = self.slots.get(stock) else {
            return false;
        };
        place.store(slot.as_ptr(), Relaxed);
        self.stock.store(stock + 1, Relaxed);
        true
    }

    /// Fills an empty magazine up to the half from the spare slots there are,
    /// and takes one slot more; `None` when there is none and memory is out.
    /// For the owner only.
    pub(super) fn refill(&self, depot: &mut Depot) -> Option<NonNull<Slot>> {
        let slot = depot.take()?;
        while self.stock() < HALF {
            let Some(slot) = depot.take_spare() else {
                break;
            };
            let fits = self.push(slot);
            debug_assert!(fits, "less than half full");
        }
        Some(slot)
    }

    /// Empties a full magazine down to the half, `slot` on top. For the owner
    /// only.
    pub(super) fn spill(&self, slot: NonNull<Slot>, depot: &mut Depot) {
        depot.put(slot);
        while self.stock() > HALF {
            let Some(slot) = self.pop() else { break };
            depot.put(slot);
        }
    }

    /// Makes sure that the slots in the magazine list nothing. For when no
    /// thread changes any.
    pub(super) fn clear_spare(&self) {
        for place in self.slots.iter().take(self.stock()) {
            if let Some(slot) = NonNull::new(place.load(Relaxed)) {
                // SAFETY: slots live as long as the depot.
                unsafe { slot.as_ref() }.clear();
            }
        }
    }

    /// Enters `change` bytes into the books (wrapping). For the owner only.
    #[inline(always)]
    pub(super) fn book(&self, change: usize) {
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(change), Relaxed);
    }

    /// The books: see [`Magazine`]'s fields.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Slots lying in the magazine.
    pub(super) fn stock(&self) -> usize {
        self.stock.load(Relaxed)
    }
}
