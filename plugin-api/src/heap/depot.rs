//! Owns the slots: the list of all live blocks, and the stock of spare slots
//! that magazines draw from.
//!
//! A slot is one pointer in a chunk of memory that never moves and is given
//! back only with the whole version. Which blocks are live is therefore read
//! by walking the chunks; no list has to be kept linked while blocks come and
//! go. Spare slots are noted in an array apart, so that a thread which frees
//! another's blocks passes their slots on without touching them: their cache
//! lines stay with the thread that allocates.
//!
//! Never touches the blocks themselves.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Slots in one chunk: with the link to the next, 4 KiB.
const CHUNK_SLOTS: usize = 511;

/// The place where one live block is listed.
///
/// A slot in use holds the block's address; what a spare one holds means
/// nothing, until [`clear`](Slot::clear) makes it null.
///
/// All accesses are relaxed: a slot belongs to one party at a time (whoever
/// has the block, the magazine's owner, the depot's lock), and what hands the
/// block, magazine or lock over orders the accesses.
#[derive(Debug)]
pub(super) struct Slot(AtomicPtr<u8>);

impl Slot {
    /// Lists `block` as live.
    #[inline]
    pub(super) fn list(&self, block: *mut u8) {
        self.0.store(block, Relaxed);
    }

    /// Makes sure that the slot lists nothing.
    pub(super) fn clear(&self) {
        self.0.store(ptr::null_mut(), Relaxed);
    }

    fn listed(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.0.load(Relaxed))
    }
}

#[repr(C)]
struct Chunk {
    next: *mut Chunk,
    slots: [Slot; CHUNK_SLOTS],
}

/// All slots of a plugin version, and which of them are spare.
///
/// Used under its lock, which also orders the hand-over of slots between
/// threads.
#[derive(Debug)]
pub(super) struct Depot {
    chunks: *mut Chunk,
    /// Slots in `chunks`.
    carved: usize,
    /// A stack with room for all slots there are, so that putting one back
    /// never needs memory.
    spare: *mut NonNull<Slot>,
    spare_count: usize,
    spare_room: usize,
    /// The books of the threads that have no magazine: what they allocated less
    /// what they freed, in bytes, wrapping.
    bytes: usize,
    /// Whether the list of blocks is the host's now, and no longer to change.
    sealed: bool,
}

// SAFETY: the pointers lead to memory that the depot alone owns; the slots in
// it are atomics, and no part is tied to a thread.
unsafe impl Send for Depot {}

impl Depot {
    pub(super) const fn new() -> Self {
        Self {
            chunks: ptr::null_mut(),
            carved: 0,
            spare: ptr::null_mut(),
            spare_count: 0,
            spare_room: 0,
            bytes: 0,
            sealed: false,
        }
    }

    /// Ends the list: what it has is the host's to free.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }

    /// Whether the list has ended: no slot is to be taken or put back.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// A slot; `None` when none is spare and memory for more is out.
    pub(super) fn take(&mut self) -> Option<NonNull<Slot>> {
        debug_assert!(!self.sealed, "the host has the list");
        if self.spare_count == 0 {
            self.carve()?;
        }
        self.take_spare()
    }

    /// A slot, if one is spare.
    pub(super) fn take_spare(&mut self) -> Option<NonNull<Slot>> {
        self.spare_count = self.spare_count.checked_sub(1)?;
        // SAFETY: below the count, every place of the stack has been written.
        Some(unsafe { self.spare.add(self.spare_count).read() })
    }

    /// Takes back a slot whose block is gone.
    pub(super) fn put(&mut self, slot: NonNull<Slot>) {
        debug_assert!(!self.sealed, "the host has the list");
        debug_assert!(self.spare_count < self.spare_room, "more slots came back than there are");
        // SAFETY: there is room for every slot carved, and `slot` is not among
        // the spare ones yet.
        unsafe { self.spare.add(self.spare_count).write(slot) };
        self.spare_count += 1;
    }

    /// Slots that are not here: in magazines, or listing a live block.
    pub(super) fn handed_out(&self) -> usize {
        self.carved - self.spare_count
    }

    /// Enters `change` bytes into the books (wrapping).
    pub(super) fn book(&mut self, change: usize) {
        self.bytes = self.bytes.wrapping_add(change);
    }

    /// The books of the threads that have no magazine.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes sure that the spare slots here list nothing.
    pub(super) fn clear_spare(&self) {
        for index in 0..self.spare_count {
            // SAFETY: as in `take_spare`; slots live as long as the depot.
            unsafe { self.spare.add(index).read().as_ref() }.clear();
        }
    }

    /// Passes to `visit` every block that a slot lists. Spare slots must have
    /// been cleared, those in magazines too.
    pub(super) fn visit_blocks(&self, visit: &mut dyn FnMut(*mut c_void)) {
        let mut chunk = self.chunks;
        // SAFETY: a chunk of ours, initialised by `carve`.
        while let Some(Chunk { next, slots }) = unsafe { chunk.as_ref() } {
            for block in slots.iter().filter_map(Slot::listed) {
                visit(block.as_ptr().cast());
            }
            chunk = *next;
        }
    }

    /// Passes to `visit` the depot's own memory; no part is read after its
    /// visit.
    pub(super) fn visit_own(&self, visit: &mut dyn FnMut(*mut c_void)) {
        let mut chunk = self.chunks;
        // SAFETY: a chunk of ours, initialised by `carve`, not visited yet.
        while let Some(next) = unsafe { chunk.as_ref() }.map(|chunk| chunk.next) {
            visit(chunk.cast());
            chunk = next;
        }
        if !self.spare.is_null() {
            visit(self.spare.cast());
        }
    }

    /// Adds a chunk of spare slots.
    #[cold]
    fn carve(&mut self) -> Option<()> {
        self.make_room_for(self.carved + CHUNK_SLOTS)?;
        // SAFETY: calloc takes any size.
        let chunk = unsafe { libc::calloc(1, size_of::<Chunk>()) }.cast::<Chunk>();
        let chunk = NonNull::new(chunk)?.as_ptr();
        // SAFETY: as large as a chunk, aligned for it by calloc, and zero,
        // which is a valid `Chunk` of null pointers; nobody else knows of it.
        let Chunk { next, slots } = unsafe { &mut *chunk };
        *next = self.chunks;
        self.chunks = chunk;
        self.carved += CHUNK_SLOTS;
        // Backwards, so that they are handed out in the order of addresses.
        for slot in slots.iter().rev() {
            self.put(NonNull::from(slot));
        }
        Some(())
    }

    /// Grows the stack of spare slots to hold `count` of them.
    fn make_room_for(&mut self, count: usize) -> Option<()> {
        if count <= self.spare_room {
            return Some(());
        }
        let room = count.max(self.spare_room * 2);
        let size = room.checked_mul(size_of::<NonNull<Slot>>())?;
        // SAFETY: `spare` is null or came from realloc here.
        let spare = unsafe { libc::realloc(self.spare.cast(), size) };
        // Null leaves the old stack as it was.
        self.spare = NonNull::new(spare.cast())?.as_ptr();
        self.spare_room = room;
        Some(())
    }
}
