//! Owns a plugin's heap books: an allocator over libc's that knows, to the byte
//! and to the block, what its plugin version still holds.
//!
//! Unloading a library drops none of its statics: a `LazyLock<Regex>`, a cache,
//! what an idle thread keeps in its thread-locals stay allocated with nobody
//! left who could free them. So each plugin has an allocator of its own, and
//! when its library is unmapped, the host frees the blocks still on the books.
//! The same books tell the host how much memory each version uses.
//!
//! Never frees a block of its own accord, never calls into the host, and does
//! not see what C code in the plugin takes from `malloc` itself.
//!
//! # Theory of operation
//!
//! The terms are those of Bonwick and Adams, "Magazines and Vmem" (USENIX 2001).
//!
//! - A **block** comes from libc, 8 bytes larger than asked for. Behind
//!   the plugin's bytes it notes its slot.
//! - A **slot** lists one live block by its address. Slots lie in
//!   chunks that never move. The blocks alive are those that the slots list,
//!   the spare slots aside.
//! - A **magazine** is one thread's stock of up to 61 spare slots,
//!   and its share of the books. Only its owner changes it, so that allocating
//!   and freeing take no lock and no atomic read-modify-write.
//! - The **depot** behind a lock holds the other spare slots. A magazine
//!   goes there when it is empty or full, and comes back half full.
//!
//! A slot is not bound to the thread that first used it: whoever frees a block
//! keeps the slot, and books the bytes as freed. Frees across threads therefore
//! need no protocol of their own, and hold back no memory. A thread that only
//! frees fills its magazine and spills into the depot, where one that only
//! allocates draws from.
//!
//! ## Whose magazine
//!
//! A thread finds its magazine by its thread pointer, without
//! thread-local storage. A magazine that carries its tag is its own, since no
//! other living thread has that tag; it claims one by compare-and-swap among
//! the eight places that its tag hashes to. [`LedgerAlloc::release_thread`]
//! gives it up. A thread that ends without doing so leaves its magazine owned by
//! a dead tag; the next thread with that tag inherits it. While all eight places
//! are taken, a thread works at the depot, under its lock: slower, as correct.
//!
//! ## What the books say while threads run
//!
//! Each thread's share may be negative, if it frees what others allocated; only
//! the sum means something. It is exact whenever nobody allocates, and otherwise
//! off by what happened while it was taken.
//!
//! ## How the books end
//!
//! `dlclose` runs the library's finalisers after the host took the list of what
//! is left, and they may free, resize and allocate. So taking the list seals the
//! books: every magazine loses its owner for good, which sends all threads
//! the slow way, where a sealed ledger frees no block that it listed (the host
//! will), and lists none of those that come after. One of these is still freed
//! when it is given back; what finalisers keep of them is lost.
//!
//! ## What it costs
//!
//! Per block 8 bytes behind it, 8 for its slot and at least 8 in the depot's
//! stack. Per plugin version 64 KiB of zero-initialised static, of which a
//! thread touches 512 bytes, and 4 KiB per 511 slots.
//!
//! # Limits
//!
//! As with libc's `malloc`: not for signal handlers, and in the child of a
//! `fork` by a process with several threads not before `exec` (the depot's lock
//! may be held by a thread that the child does not have). As with every
//! allocator that trusts [`Layout`]: a block given back with another size than
//! it was asked for with is undefined behaviour, here a real one.
//!
//! long: the fast and the slow path of each operation are read side by side.

mod block;
mod depot;
mod magazine;
#[cfg(test)]
mod tests;
mod thread_tag;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use depot::{Depot, Slot};
use magazine::Magazine;

/// Magazines in a ledger: threads that can work without its lock. A power of
/// two.
const MAGAZINES: usize = 128;
/// Places at which a thread looks for a magazine.
const PROBES: usize = 8;

/// The global allocator of a plugin: libc's, with exact books.
///
/// The export macro installs it, one in each plugin library. Every block must
/// come from and go back to the same ledger, as with any global allocator.
///
/// ```
/// use replug_plugin_api::heap::LedgerAlloc;
///
/// #[global_allocator]
/// static HEAP: LedgerAlloc = LedgerAlloc::new();
///
/// fn main() {
///     let before = HEAP.live();
///     let kept = Box::new([0_u8; 100]);
///     assert_eq!(HEAP.live().bytes, before.bytes + 100);
///     assert_eq!(HEAP.live().blocks, before.blocks + 1);
///     drop(kept);
///     assert_eq!(HEAP.live(), before);
/// }
/// ```
#[derive(Debug)]
pub struct LedgerAlloc {
    magazines: [Magazine; MAGAZINES],
    /// A standard mutex: on Linux a futex, which never allocates.
    depot: Mutex<Depot>,
}

/// What a plugin version holds on its heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Bytes in live blocks, as the plugin asked for them: without the ledger's
    /// and libc's overhead.
    pub bytes: usize,
    /// Live blocks.
    pub blocks: usize,
}

impl LedgerAlloc {
    /// Empty books. Needs no memory beyond the value itself.
    pub const fn new() -> Self {
        Self { magazines: [const { Magazine::new() }; MAGAZINES], depot: Mutex::new(Depot::new()) }
    }

    /// What is live now. From any thread; stops nobody but threads that would
    /// exchange slots with the depot meanwhile.
    ///
    /// Exact when no thread allocates or frees; otherwise off by what they did
    /// during the call.
    pub fn live(&self) -> Live {
        let depot = self.depot();
        let mut bytes = depot.bytes();
        let mut blocks = depot.handed_out();
        for magazine in &self.magazines {
            bytes = bytes.wrapping_add(magazine.bytes());
            blocks = blocks.saturating_sub(magazine.stock());
        }
        // A free seen without its allocation can take the sum below zero.
        Live { bytes: bytes.cast_signed().max(0).cast_unsigned(), blocks }
    }

    /// Passes to `visit` what the host must give to libc's `free` once the
    /// library is unmapped: every live block, and the ledger's own memory.
    ///
    /// For the host, once, just before it closes the library. No thread may be
    /// in the plugin's code, and the host must have synchronised with each one's
    /// last step there. `visit` must not use this ledger; it collects into
    /// memory of the host's own.
    ///
    /// It [ends the books](self#how-the-books-end): from here on the plugin's
    /// code, of which finalisers still run, frees nothing that was listed.
    pub fn leftovers(&self, visit: &mut dyn FnMut(*mut c_void)) {
        self.seal();
        self.list_all(visit);
    }

    /// Gives up the calling thread's magazine, for other threads to use.
    ///
    /// The last step of a thread that leaves the plugin. Should it allocate or
    /// free afterwards all the same, it claims a magazine anew.
    pub fn release_thread(&self) {
        self.release(thread_tag::current());
    }
}

impl Default for LedgerAlloc {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks come from libc's allocation functions, with the size and
// alignment asked for, and are exclusively the caller's until given back; a
// failure returns null and leaves old blocks as they were; nothing unwinds.
unsafe impl GlobalAlloc for LedgerAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = block::allocate(layout);
        self.enter(thread_tag::current(), block, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = block::allocate_zeroed(layout);
        self.enter(thread_tag::current(), block, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller returns a block of ours with its layout.
        unsafe { self.discard(thread_tag::current(), block, layout.size()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller passes a block of ours with its layout, and a size
        // that is valid with its alignment.
        unsafe { self.resize(thread_tag::current(), block, layout, new_size) }
    }
}

/// The allocator's work, on behalf of the thread of a given tag: tests act as
/// many threads, or as one that inherits a dead one's tag.
impl LedgerAlloc {
    /// Sends every thread the slow way, and lets nothing change the list there.
    fn seal(&self) {
        self.depot().seal();
        self.magazines.iter().for_each(Magazine::seal);
    }

    fn list_all(&self, visit: &mut dyn FnMut(*mut c_void)) {
        let depot = self.depot();
        // Spare slots still hold the address of their last block.
        depot.clear_spare();
        self.magazines.iter().for_each(Magazine::clear_spare);
        depot.visit_blocks(visit);
        depot.visit_own(visit);
    }

    /// Lists a block fresh from libc, null included, as live.
    #[inline(always)]
    fn enter(&self, tag: usize, block: *mut u8, size: usize) -> *mut u8 {
        if !block.is_null()
            && let Some(magazine) = self.first_magazine(tag)
            && let Some(slot) = magazine.pop()
        {
            magazine.book(size);
            // SAFETY: the block was made for `size` bytes.
            return unsafe { list(block, size, slot) };
        }
        self.enter_slowly(tag, block, size)
    }

    /// All of `enter` apart, so that the fast path saves no registers for it.
    #[cold]
    fn enter_slowly(&self, tag: usize, block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            return block;
        }
        let slot = match self.magazine(tag) {
            Some(magazine) => {
                magazine.pop().or_else(|| magazine.refill(&mut self.depot())).inspect(|_| magazine.book(size))
            }
            None => {
                let mut depot = self.depot();
                if depot.is_sealed() {
                    // SAFETY: the block was made for `size` bytes.
                    unsafe { block::note_slot(block, size, block::UNLISTED) };
                    return block;
                }
                depot.take().inspect(|_| depot.book(size))
            }
        };
        match slot {
            // SAFETY: the block was made for `size` bytes.
            Some(slot) => unsafe { list(block, size, slot) },
            None => {
                // SAFETY: the block is fresh, and nobody else has it.
                unsafe { block::free(block) };
                ptr::null_mut()
            }
        }
    }

    /// Takes a block off the books and gives it back to libc.
    ///
    /// # Safety
    /// A live block of this ledger, of `size` bytes, that nobody uses any more.
    #[inline(always)]
    unsafe fn discard(&self, tag: usize, block: *mut u8, size: usize) {
        // SAFETY: a live block's slot has been noted.
        let slot = unsafe { block::slot(block, size) };
        if let Some(magazine) = self.first_magazine(tag)
            && magazine.push(slot)
        {
            magazine.book(size.wrapping_neg());
            // SAFETY: as the caller promises.
            unsafe { block::free(block) }
        } else {
            // SAFETY: as the caller promises; the slot is in no magazine.
            unsafe { self.discard_slowly(tag, block, size, slot) }
        }
    }

    /// All of `discard` apart, once the slot is known.
    ///
    /// # Safety
    /// As for `discard`; `slot` lists the block.
    #[cold]
    unsafe fn discard_slowly(&self, tag: usize, block: *mut u8, size: usize, slot: NonNull<Slot>) {
        let change = size.wrapping_neg();
        match self.magazine(tag) {
            Some(magazine) => {
                if !magazine.push(slot) {
                    magazine.spill(slot, &mut self.depot());
                }
                magazine.book(change);
            }
            None => {
                let mut depot = self.depot();
                if !depot.is_sealed() {
                    depot.put(slot);
                    depot.book(change);
                } else if slot != block::UNLISTED {
                    // The host has its address, and frees it.
                    return;
                }
            }
        }
        // SAFETY: as the caller promises.
        unsafe { block::free(block) }
    }

    /// As [`GlobalAlloc::realloc`], whose promises the caller makes.
    #[inline(always)]
    unsafe fn resize(&self, tag: usize, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !block::is_plain(layout) {
            // SAFETY: as the caller promises.
            return unsafe { self.move_block(tag, block, layout, new_size) };
        }
        let magazine = self.first_magazine(tag).or_else(|| self.magazine(tag));
        if magazine.is_none() && self.depot().is_sealed() {
            // SAFETY: as the caller promises.
            return unsafe { self.move_block(tag, block, layout, new_size) };
        }
        // The slot goes with the block: read it while the block is there.
        // SAFETY: a live block of ours, and a plain one, with its size.
        let (slot, moved) = unsafe { (block::slot(block, layout.size()), block::resize(block, new_size)) };
        if moved.is_null() {
            return moved;
        }
        let change = new_size.wrapping_sub(layout.size());
        match magazine {
            Some(magazine) => magazine.book(change),
            None => self.depot().book(change),
        }
        // SAFETY: the block has room for `new_size` bytes now.
        unsafe { list(moved, new_size, slot) }
    }

    /// `realloc` where libc's does not do: for an alignment that it does not
    /// keep, and for blocks that stay where the host knows them.
    #[cold]
    unsafe fn move_block(&self, tag: usize, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller of `realloc` promises that this layout is valid.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let moved = self.enter(tag, block::allocate(new_layout), new_size);
        if !moved.is_null() {
            // SAFETY: both blocks have so many bytes, and are distinct; the old
            // one is the caller's to give back.
            unsafe {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                self.discard(tag, block, layout.size());
            }
        }
        moved
    }

    fn release(&self, tag: usize) {
        if let Some(magazine) = self.find(tag) {
            magazine.give_up(&mut self.depot());
        }
    }

    fn depot(&self) -> MutexGuard<'_, Depot> {
        // Nothing panics under the lock; were it so, an allocator must go on.
        self.depot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The magazine at the first place of `tag`, where nearly all threads have
    /// theirs.
    #[inline(always)]
    fn first_magazine(&self, tag: usize) -> Option<&Magazine> {
        let first = &self.magazines[first_place(tag)];
        first.is_owned_by(tag).then_some(first)
    }

    /// The magazine of the thread of `tag`; `None` while all its places are
    /// taken by others.
    fn magazine(&self, tag: usize) -> Option<&Magazine> {
        // Look at all places before claiming one: a place before ours may have
        // become free since.
        self.find(tag).or_else(|| self.places(tag).find(|magazine| magazine.claim(tag)))
    }

    fn find(&self, tag: usize) -> Option<&Magazine> {
        self.places(tag).find(|magazine| magazine.is_owned_by(tag))
    }

    fn places(&self, tag: usize) -> impl Iterator<Item = &Magazine> {
        let first = first_place(tag);
        (first..first + PROBES).map(|place| &self.magazines[place % MAGAZINES])
    }
}

/// Ties a block and its slot together.
///
/// # Safety
/// `block` has room for `size` bytes, as [`block`] makes it; `slot` is the
/// caller's, from this ledger's depot.
#[inline(always)]
unsafe fn list(block: *mut u8, size: usize, slot: NonNull<Slot>) -> *mut u8 {
    // SAFETY: as the caller promises; slots live as long as the depot.
    unsafe {
        block::note_slot(block, size, slot);
        slot.as_ref().list(block);
    }
    block
}

/// Fibonacci hashing: thread pointers are evenly spaced, by the size of the
/// stacks, and the golden ratio scatters such a sequence evenly.
#[inline(always)]
fn first_place(tag: usize) -> usize {
    const GOLDEN: usize = 0x9E37_79B9_7F4A_7C15;
    tag.wrapping_mul(GOLDEN) >> (usize::BITS - MAGAZINES.ilog2())
}
