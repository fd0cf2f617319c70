//! Owns the shape of one block: what is asked of libc, and where the block
//! notes its slot.
//!
//! ```text
//! base                           base + size rounded up to 8
//! | the plugin's bytes | padding | slot: 8 bytes |
//! ```
//!
//! The slot's address stands *behind* the plugin's bytes. A header in front
//! would cost 16 bytes (or the whole alignment, where that is larger) to keep
//! the plugin's bytes aligned; behind, the block's address is exactly what
//! libc returned, for every alignment, and for a size that is a multiple of 16
//! the 8 bytes fall into the gap that glibc leaves there anyway.
//!
//! Calls libc by name rather than through [`std::alloc::System`]: the host will
//! pass these addresses to `free`, so that they come from `malloc`'s family
//! must be our promise, not the standard library's habit.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use super::depot::Slot;

/// What libc's `malloc` aligns to on every 64-bit Linux.
const MALLOC_ALIGN: usize = 16;

/// Whether `malloc` and `realloc` respect the alignment of `layout`.
#[inline]
pub(super) fn is_plain(layout: Layout) -> bool {
    layout.align() <= MALLOC_ALIGN
}

/// A block for `layout`, its slot not yet noted; null when memory is out.
#[inline]
pub(super) fn allocate(layout: Layout) -> *mut u8 {
    if is_plain(layout) {
        // SAFETY: malloc takes any size.
        unsafe { libc::malloc(gross(layout.size())).cast() }
    } else {
        allocate_aligned(layout)
    }
}

/// As [`allocate`], with the plugin's bytes zero.
#[inline]
pub(super) fn allocate_zeroed(layout: Layout) -> *mut u8 {
    if is_plain(layout) {
        // calloc, not malloc and a fill: fresh pages of a large block are zero
        // already and stay untouched.
        // SAFETY: calloc takes any size.
        return unsafe { libc::calloc(1, gross(layout.size())).cast() };
    }
    let block = allocate_aligned(layout);
    if !block.is_null() {
        // SAFETY: the block has at least `size` bytes, and nobody else's.
        unsafe { ptr::write_bytes(block, 0, layout.size()) };
    }
    block
}

#[cold]
fn allocate_aligned(layout: Layout) -> *mut u8 {
    let mut block = ptr::null_mut();
    // SAFETY: the alignment of a `Layout` is a power of two, and here above 16,
    // hence a multiple of the pointer's size; `block` is a valid place.
    let status = unsafe { libc::posix_memalign(&mut block, layout.align(), gross(layout.size())) };
    if status == 0 { block.cast() } else { ptr::null_mut() }
}

/// Moves or resizes a plain block to `new_size`; the slot is not carried over.
/// Null, and the old block untouched, when memory is out.
///
/// # Safety
/// `block` came from here with `layout`, which [is plain](is_plain).
#[inline]
pub(super) unsafe fn resize(block: *mut u8, new_size: usize) -> *mut u8 {
    // SAFETY: a plain block came from malloc, calloc or realloc.
    unsafe { libc::realloc(block.cast(), gross(new_size)).cast() }
}

/// Gives the block back to libc.
///
/// # Safety
/// `block` came from here, or is null, and is not used again.
#[inline]
pub(super) unsafe fn free(block: *mut u8) {
    // SAFETY: every block is what a function of malloc's family returned.
    unsafe { libc::free(block.cast()) }
}

/// Notes the slot of a block of `size` bytes.
///
/// # Safety
/// `block` came from here for `size` bytes.
#[inline]
pub(super) unsafe fn note_slot(block: *mut u8, size: usize, slot: NonNull<Slot>) {
    // SAFETY: `gross` made room for a pointer at this offset; the base is
    // aligned to 8 at least and the offset is a multiple of 8.
    unsafe { block.add(offset_of_slot(size)).cast::<NonNull<Slot>>().write(slot) }
}

/// What a block notes that no slot lists. It is compared, never followed.
pub(super) const UNLISTED: NonNull<Slot> = NonNull::dangling();

/// The slot of a block of `size` bytes.
///
/// # Safety
/// `block` came from here for `size` bytes, and its slot has been noted.
#[inline]
pub(super) unsafe fn slot(block: *mut u8, size: usize) -> NonNull<Slot> {
    // SAFETY: as in `note_slot`, which wrote what is read here.
    unsafe { block.add(offset_of_slot(size)).cast::<NonNull<Slot>>().read() }
}

#[inline]
fn offset_of_slot(size: usize) -> usize {
    // No overflow: a `Layout` never exceeds `isize::MAX`.
    (size + 7) & !7
}

/// What to ask of libc for `size` bytes of the plugin.
#[inline]
fn gross(size: usize) -> usize {
    offset_of_slot(size) + size_of::<NonNull<Slot>>()
}
