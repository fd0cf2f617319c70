//! x

mod block;
mod depot;
mod magazine;
mod thread_tag;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use depot::{Depot, Slot};
use magazine::Magazine;

const MAGAZINES: usize = 64;
const PROBES: usize = 8;

/// L
#[derive(Debug)]
pub struct LedgerAlloc {
    magazines: [Magazine; MAGAZINES],
    depot: Mutex<Depot>,
}

/// What
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// b
    pub bytes: usize,
    /// b
    pub blocks: usize,
}

impl LedgerAlloc {
    /// n
    pub const fn new() -> Self {
        Self {
            magazines: [const { Magazine::new() }; MAGAZINES],
            depot: Mutex::new(Depot::new()),
        }
    }

    /// l
    pub fn live(&self) -> Live {
        let depot = self.depot();
        let mut bytes = depot.bytes;
        let mut blocks = depot.handed_out();
        for magazine in &self.magazines {
            bytes = bytes.wrapping_add(magazine.bytes());
            blocks = blocks.saturating_sub(magazine.stock());
        }
        Live {
            bytes: (bytes as isize).max(0) as usize,
            blocks,
        }
    }

    /// l
    pub fn leftovers(&self, visit: &mut dyn FnMut(*mut c_void)) {
        self.depot().visit(visit);
    }

    /// r
    pub fn release_thread(&self) {
        self.release(thread_tag::current());
    }

    fn release(&self, tag: usize) {
        if let Some(magazine) = self.find(tag) {
            magazine.give_up(&mut self.depot());
        }
    }

    #[inline(always)]
    fn home(tag: usize) -> usize {
        (tag as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> (64 - MAGAZINES.ilog2())
    }

    fn probes(&self, tag: usize) -> impl Iterator<Item = &Magazine> {
        let home = Self::home(tag);
        (home..home + PROBES).map(|i| &self.magazines[i % MAGAZINES])
    }
    fn find(&self, tag: usize) -> Option<&Magazine> {
        self.probes(tag).find(|m| m.is_owned_by(tag))
    }
    fn find_or_claim(&self, tag: usize) -> Option<&Magazine> {
        self.find(tag)
            .or_else(|| self.probes(tag).find(|m| m.claim(tag)))
    }

    fn depot(&self) -> MutexGuard<'_, Depot> {
        self.depot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    fn home_of(&self, tag: usize) -> Option<&Magazine> {
        let m = &self.magazines[Self::home(tag)];
        m.is_owned_by(tag).then_some(m)
    }

    #[inline(always)]
    fn take_slot(&self, tag: usize, size: usize) -> Option<NonNull<Slot>> {
        if let Some(m) = self.home_of(tag)
            && let Some(slot) = m.pop()
        {
            m.book(size);
            return Some(slot);
        }
        self.take_slot_slow(tag, size)
    }
    #[cold]
    #[inline(never)]
    fn take_slot_slow(&self, tag: usize, size: usize) -> Option<NonNull<Slot>> {
        let Some(m) = self.find_or_claim(tag) else {
            let mut depot = self.depot();
            let slot = depot.take()?;
            depot.bytes = depot.bytes.wrapping_add(size);
            return Some(slot);
        };
        let slot = m.pop().or_else(|| {
            m.refill(&mut self.depot());
            m.pop()
        })?;
        m.book(size);
        Some(slot)
    }
    #[inline(always)]
    fn put_slot(&self, tag: usize, slot: NonNull<Slot>, size: usize) {
        if let Some(m) = self.home_of(tag)
            && m.push(slot)
        {
            m.book(size.wrapping_neg());
            return;
        }
        self.put_slot_slow(tag, slot, size);
    }
    #[cold]
    #[inline(never)]
    fn put_slot_slow(&self, tag: usize, slot: NonNull<Slot>, size: usize) {
        let Some(m) = self.find_or_claim(tag) else {
            let mut depot = self.depot();
            depot.put(slot);
            depot.bytes = depot.bytes.wrapping_sub(size);
            return;
        };
        if !m.push(slot) {
            m.spill(&mut self.depot());
            let fits = m.push(slot);
            debug_assert!(fits);
        }
        m.book(size.wrapping_neg());
    }

    #[inline(always)]
    fn enter(&self, tag: usize, block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            return block;
        }
        let Some(slot) = self.take_slot(tag, size) else {
            // SAFETY: x
            unsafe { block::free(block) };
            return ptr::null_mut();
        };
        // SAFETY: x
        unsafe {
            block::note_slot(block, size, slot);
            slot.as_ref().list(block);
        }
        block
    }
}

// SAFETY: x
unsafe impl GlobalAlloc for LedgerAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.enter(
            thread_tag::current(),
            block::allocate(layout),
            layout.size(),
        )
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.enter(
            thread_tag::current(),
            block::allocate_zeroed(layout),
            layout.size(),
        )
    }
    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: x
        unsafe {
            let slot = block::slot(block, layout.size());

            self.put_slot(thread_tag::current(), slot, layout.size());
            block::free(block);
        }
    }
}
