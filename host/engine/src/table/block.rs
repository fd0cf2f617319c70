//! A record that never changes: a header and bytes in one allocation, counted, and
//! freed with the last who holds it, on whatever thread that is.
//!
//! # Whose memory
//!
//! What a caller wrote is mostly freed by another thread: a sweep, or the next
//! caller. The C library's allocator locks the place that memory came from to take
//! it back, and so does whoever allocates there, for whatever purpose; who does so
//! while a thread with that lock has lost its core waits for milliseconds. Hence
//! the allocator here is mimalloc, which is handed memory back from other threads by
//! one atomic exchange (Leijen, Zorn and de Moura, "Mimalloc: Free List Sharding in
//! Action", 2019), so that nobody waits. Nothing else of the process is in it, unless
//! the program that embeds this has chosen it for itself.
//!
//! What it does on occasion, on the thread that happens to allocate, is put off as far as
//! it lets us. To go through all that the thread has allocated takes 5 to 12 ms beside a
//! sweep of a million rows, by a profile: now it is done with every millionth allocation
//! that finds no free record of its size at hand, instead of every ten thousandth. To give
//! memory back to the system takes 4 ms there: whoever can wait does it, by [`give_back`].

use std::{
    alloc::{Layout, handle_alloc_error},
    marker::PhantomData,
    process,
    ptr::NonNull,
    slice,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

/// A header and bytes. Clones are the same record.
#[derive(Debug)]
pub(super) struct Block<H> {
    record: NonNull<Record<H>>,
    /// It frees one.
    owns: PhantomData<Record<H>>,
}

/// The bytes stand behind it.
#[repr(C)]
#[derive(Debug)]
struct Record<H> {
    /// How many blocks are this record. The decrements release what was read before
    /// them to the last one's fence.
    count: AtomicUsize,
    len: usize,
    header: H,
}

// SAFETY: as `Arc`: whoever has one reads the header and bytes, and may be the one who
// drops them.
unsafe impl<H: Send + Sync> Send for Block<H> {}
// SAFETY: as above.
unsafe impl<H: Send + Sync> Sync for Block<H> {}

impl<H: Copy> Block<H> {
    /// A record of its own, with all parts one after the other.
    pub(super) fn new(header: H, parts: &[&[u8]]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        let record = memory::allocate(layout::<H>(len)).cast::<Record<H>>();
        // SAFETY: fresh memory of that layout.
        unsafe { record.write(Record { count: AtomicUsize::new(1), len, header }) };
        // SAFETY: the layout has `len` bytes behind the record.
        let mut at = unsafe { record.add(1) }.cast::<u8>();
        for part in parts {
            // SAFETY: the parts have `len` bytes in all, and are not in fresh memory.
            unsafe {
                at.copy_from_nonoverlapping(NonNull::from(*part).cast(), part.len());
                at = at.add(part.len());
            }
        }
        Block { record, owns: PhantomData }
    }
}

impl<H> Block<H> {
    pub(super) fn header(&self) -> &H {
        &self.record().header
    }

    /// The header, to be changed, if nobody else has the record.
    pub(super) fn header_mut(&mut self) -> Option<&mut H> {
        // Acquire: what others read before they dropped theirs was before this.
        if self.record().count.load(Acquire) != 1 {
            return None;
        }
        // SAFETY: this is the only one, and is borrowed for as long.
        Some(unsafe { &mut self.record.as_mut().header })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` wrote as many bytes there, and nobody writes them again. The
        // pointer is that of the whole allocation.
        unsafe { slice::from_raw_parts(self.record.add(1).cast().as_ptr(), self.record().len) }
    }

    pub(super) fn address(&self) -> Address {
        Address(self.record.as_ptr().cast())
    }

    /// Whether both are the same record, not only equal ones.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.record == other.record
    }

    fn record(&self) -> &Record<H> {
        // SAFETY: it is there as long as its count says so, in which this one is.
        unsafe { self.record.as_ref() }
    }
}

impl<H> Clone for Block<H> {
    fn clone(&self) -> Self {
        // Relaxed: who clones has one, and with it all that it stands for.
        let before = self.record().count.fetch_add(1, Relaxed);
        // So many are not forgotten by chance, and a count must not go round.
        if before > isize::MAX as usize {
            process::abort();
        }
        Block { record: self.record, owns: PhantomData }
    }
}

impl<H> Drop for Block<H> {
    fn drop(&mut self) {
        let record = self.record();
        let layout = layout::<H>(record.len);
        // Release: pairs with the fence of the last one.
        if record.count.fetch_sub(1, Release) != 1 {
            return;
        }
        fence(Acquire);
        // SAFETY: this was the last one; the header needs no drop, as it was `Copy`.
        unsafe { memory::free(self.record.cast(), layout) };
    }
}

/// Where a block is: all that can be told without looking into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(*const u8);

/// Has the header of what was at this address on its way into the cache, for whoever looks
/// at many under a lock. Whether it is there yet makes no difference but for time.
#[inline]
pub(super) fn prefetch<H>(address: Address) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for at in [0, size_of::<Record<H>>() - 1] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: nothing is read, and an address of no memory does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.0.wrapping_add(at).cast()) };
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = address;
}

/// Has allocating a block take its time as seldom as can be. For the whole process, and to
/// be said before there are many.
pub(super) fn prepare() {
    memory::prepare();
}

/// Whether there may ever have been a block.
pub(crate) fn is_prepared() -> bool {
    memory::is_prepared()
}

/// Has memory of blocks that were freed given back to the system, as far as that can be
/// done from here: nobody else does. Takes some milliseconds if there were many.
pub(crate) fn give_back() {
    memory::collect();
}

fn layout<H>(len: usize) -> Layout {
    let bytes = Layout::array::<u8>(len).and_then(|bytes| Layout::new::<Record<H>>().extend(bytes));
    // What is copied into it is in memory already.
    bytes.expect("no more than an address space holds").0
}

#[cfg(not(miri))]
mod memory {
    use super::{Layout, NonNull, handle_alloc_error};
    use libmimalloc_sys::{
        mi_collect, mi_free, mi_malloc, mi_option_get, mi_option_set_default, mi_option_t, mi_thread_init,
    };
    use std::{ffi::c_long, sync::Once};

    /// An option of version 3.3 which the bindings do not name, what it is if neither the
    /// program nor the environment has set it, and what it is to be.
    pub(super) struct Choice {
        pub(super) option: mi_option_t,
        usual: c_long,
        pub(super) chosen: c_long,
    }

    pub(super) const CHOICES: [Choice; 2] = [
        // `mi_option_purge_delay`, in milliseconds: an hour. Less is a call's to do.
        Choice { option: 15, usual: 1_000, chosen: 60 * 60 * 1_000 },
        // `mi_option_generic_collect`: the most that it takes.
        Choice { option: 34, usual: 10_000, chosen: 1_000_000 },
    ];

    static PREPARED: Once = Once::new();

    /// What any memory of this allocator is aligned to, if it is as large.
    const ALIGNED: usize = 16;

    pub(super) fn prepare() {
        PREPARED.call_once(|| {
            for Choice { option, usual, chosen } in CHOICES {
                // SAFETY: an option may be read and set at any time, on any thread. If
                // another version had another one at this number, its value would hardly
                // be this one.
                unsafe {
                    if mi_option_get(option) == usual {
                        mi_option_set_default(option, chosen);
                    }
                }
            }
        });
    }

    pub(super) fn is_prepared() -> bool {
        PREPARED.is_completed()
    }

    pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.align() <= ALIGNED && layout.size() >= ALIGNED);
        // SAFETY: any size will do.
        let memory = unsafe { mi_malloc(layout.size()) };
        NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// It is of [`allocate`], and nobody has it any more.
    pub(super) unsafe fn free(memory: NonNull<u8>, _: Layout) {
        // SAFETY: as demanded.
        unsafe { mi_free(memory.as_ptr().cast()) };
    }

    pub(super) fn collect() {
        // SAFETY: both may be called at any time, on any thread. One that has allocated
        // nothing here has to be made known first, or it collects nothing.
        unsafe {
            mi_thread_init();
            mi_collect(true);
        }
    }
}

/// Miri sees no foreign memory.
#[cfg(miri)]
mod memory {
    use super::{Layout, NonNull, handle_alloc_error};
    use std::alloc::{alloc, dealloc};

    pub(super) fn prepare() {}

    pub(super) fn is_prepared() -> bool {
        true
    }

    pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
        // SAFETY: a record is never of size 0.
        NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
    }

    pub(super) unsafe fn free(memory: NonNull<u8>, layout: Layout) {
        // SAFETY: of `allocate`, with the same layout.
        unsafe { dealloc(memory.as_ptr(), layout) };
    }

    pub(super) fn collect() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_block_holds_its_header_and_all_parts() {
        for parts in [&[&b"key"[..], b"", b"value"][..], &[], &[b""]] {
            let block = Block::new((7_u64, 3_u8), parts);
            assert_eq!((block.header(), block.bytes()), (&(7, 3), &parts.concat()[..]));
        }
    }

    #[test]
    fn a_header_changes_only_while_nobody_else_has_it() {
        let mut block = Block::new(1, &[b"bytes"]);
        *block.header_mut().expect("it is the only one") = 2;
        let other = block.clone();
        assert!(block.header_mut().is_none() && block.is(&other) && *other.header() == 2);
        drop(other);
        assert!(block.header_mut().is_some() && !block.is(&Block::new(2, &[b"bytes"])));
    }

    /// The bindings do not name the options: this is how a new version that has them at
    /// other places is found out.
    #[cfg(not(miri))]
    #[test]
    fn callers_are_spared_the_upkeep_of_memory() {
        prepare();
        for memory::Choice { option, chosen, .. } in memory::CHOICES {
            // SAFETY: an option may be read at any time.
            assert_eq!(unsafe { libmimalloc_sys::mi_option_get(option) }, chosen, "{option}");
        }
    }

    #[test]
    fn the_last_of_many_threads_frees_what_all_have_read() {
        let blocks: Vec<Block<usize>> = (0..50).map(|n| Block::new(n, &[&[n as u8; 100]])).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                let blocks = blocks.clone();
                scope.spawn(move || {
                    for (n, block) in blocks.into_iter().enumerate() {
                        assert!(*block.header() == n && block.bytes().iter().all(|byte| *byte == n as u8));
                    }
                });
            }
            drop(blocks);
        });
        give_back();
    }
}
