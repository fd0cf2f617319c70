//! Tests of the ledger: the books against a model, threads real and acted, and
//! the list of what is left.
//!
//! Each test has a ledger of its own, torn down as the host does it: what is
//! left is freed after the last use. Under Miri that also proves that nothing
//! leaks and nothing is freed twice.
//!
//! long: one test for each promise of the books.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{LedgerAlloc, Live, MAGAZINES, PROBES, block, first_place};

/// Beyond what libc takes from its own heap; Miri has no such thing.
const LARGE: usize = if cfg!(miri) { 1_000 } else { 300_000 };

/// A live block, full of its stamp.
#[derive(Debug)]
struct Held {
    block: *mut u8,
    layout: Layout,
    stamp: u8,
}

// SAFETY: a block belongs to whoever holds it, in whichever thread.
unsafe impl Send for Held {}

impl Held {
    fn new(ledger: &LedgerAlloc, tag: usize, layout: Layout, stamp: u8) -> Self {
        let block = ledger.enter(tag, block::allocate(layout), layout.size());
        assert!(!block.is_null(), "out of memory");
        assert!(block.addr().is_multiple_of(layout.align()), "misaligned");
        // SAFETY: a fresh block of this size.
        unsafe { block.write_bytes(stamp, layout.size()) };
        Self { block, layout, stamp }
    }

    fn resize(&mut self, ledger: &LedgerAlloc, tag: usize, size: usize) {
        // SAFETY: a live block of this ledger, with its layout.
        self.block = unsafe { ledger.resize(tag, self.block, self.layout, size) };
        assert!(!self.block.is_null(), "out of memory");
        let kept = self.layout.size().min(size);
        self.layout = layout(size, self.layout.align());
        assert!(self.block.addr().is_multiple_of(self.layout.align()), "misaligned");
        self.check(kept);
        // SAFETY: the block has `size` bytes now.
        unsafe { self.block.write_bytes(self.stamp, size) };
    }

    fn free(self, ledger: &LedgerAlloc, tag: usize) {
        self.check(self.layout.size());
        // SAFETY: a live block of this ledger, used no more.
        unsafe { ledger.discard(tag, self.block, self.layout.size()) };
    }

    fn check(&self, count: usize) {
        // SAFETY: so many bytes have been written.
        let bytes = unsafe { std::slice::from_raw_parts(self.block, count) };
        assert!(bytes.iter().all(|byte| *byte == self.stamp), "overwritten by another block");
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a valid layout")
}

fn live(held: &[Held]) -> Live {
    Live { bytes: held.iter().map(|held| held.layout.size()).sum(), blocks: held.len() }
}

/// What is on the list, the books going on.
fn listed(ledger: &LedgerAlloc) -> Vec<*mut c_void> {
    let mut list = Vec::new();
    ledger.list_all(&mut |pointer| list.push(pointer));
    list
}

/// What the host does once the library is gone.
fn free_leftovers(ledger: LedgerAlloc) {
    let mut list = Vec::new();
    ledger.leftovers(&mut |pointer| list.push(pointer));
    free_all(list);
}

fn free_all(list: Vec<*mut c_void>) {
    for pointer in list {
        // SAFETY: a block or a part of the ledger, none used any more.
        unsafe { libc::free(pointer) };
    }
}

/// Checks that the leftovers are all of `held`, each once, and the ledger's own.
fn assert_lists_exactly(ledger: &LedgerAlloc, held: &[Held]) {
    let list = listed(ledger);
    let set: BTreeSet<_> = list.iter().map(|pointer| pointer.addr()).collect();
    assert_eq!(set.len(), list.len(), "listed twice");
    assert!(held.iter().all(|held| set.contains(&held.block.addr())), "a live block is missing");
    // At most a chunk per 511 blocks or half-filled magazine, and the stack.
    assert!(list.len() - held.len() <= 2 + held.len() / 8 + 1, "freed blocks are listed");
}

#[test]
fn books_follow_one_thread_to_the_byte() {
    let ledger = LedgerAlloc::new();
    assert_eq!(ledger.live(), Live::default());
    // Past a magazine and past a chunk, both ways.
    let mut held: Vec<_> =
        (0..600).map(|index| Held::new(&ledger, 16, layout(1 + index % 50, 1), 7)).collect();
    while !held.is_empty() {
        assert_eq!(ledger.live(), live(&held));
        for _ in 0..30 {
            held.pop().expect("600 is a multiple of 30").free(&ledger, 16);
        }
    }
    assert_eq!(ledger.live(), Live::default());
    free_leftovers(ledger);
}

#[test]
fn leftovers_are_the_live_blocks_and_asking_changes_nothing() {
    let ledger = LedgerAlloc::new();
    let mut held: Vec<_> = (0..300).map(|size| Held::new(&ledger, 16, layout(size + 1, 8), 1)).collect();
    held.push(Held::new(&ledger, 16, layout(100, 4096), 2));
    for index in (0..200).rev() {
        held.swap_remove(index).free(&ledger, if index % 2 == 0 { 16 } else { 32 });
    }
    assert_lists_exactly(&ledger, &held);
    held.extend((0..150).map(|_| Held::new(&ledger, 32, layout(24, 8), 3)));
    assert_lists_exactly(&ledger, &held);
    assert_eq!(ledger.live(), live(&held));
    free_leftovers(ledger);
}

/// Finalisers run in `dlclose`, after the host took the list. A library with a
/// Rust destructor in `.fini_array` freed blocks that the host then freed again,
/// and a single allocation could move the array of spare slots, which is listed.
#[test]
fn what_finalisers_do_leaves_the_list_that_the_host_took_alone() {
    let ledger = LedgerAlloc::new();
    let tags = [16, 32];
    let mut held: Vec<_> =
        (0..1_400).map(|turn| Held::new(&ledger, tags[turn % 2], layout(turn + 1, 8), 1)).collect();
    held.push(Held::new(&ledger, 16, layout(100, 4096), 1));
    held.drain(..300).for_each(|held| held.free(&ledger, 16));
    let mut list = Vec::new();
    ledger.leftovers(&mut |pointer| list.push(pointer));

    let (books, places) = (ledger.live(), held.iter().map(|held| (held.block, held.layout.size())));
    let places: Vec<_> = places.collect();
    let mut late: Vec<_> = (0..1_000).map(|_| Held::new(&ledger, 48, layout(64, 64), 2)).collect();
    for (turn, mut held) in held.into_iter().enumerate() {
        if turn % 2 == 0 {
            held.resize(&ledger, 32, 5_000);
            late.push(held);
        } else {
            held.free(&ledger, 16);
        }
    }
    late.iter_mut().for_each(|late| late.resize(&ledger, 16, 100));
    late.into_iter().for_each(|late| late.free(&ledger, 48));
    ledger.release(16);

    assert_eq!(listed(&ledger), list);
    assert_eq!(ledger.live(), books);
    for (block, size) in places {
        // SAFETY: what is listed is the host's, which has not freed it yet.
        let bytes = unsafe { std::slice::from_raw_parts(block, size) };
        assert!(bytes.iter().all(|byte| *byte == 1), "given back to libc");
    }
    free_all(list);
}

#[test]
fn zeroed_blocks_are_zero_at_every_alignment() {
    let ledger = LedgerAlloc::new();
    for align in [1, 8, 16, 32, 4096] {
        let layout = layout(200, align);
        Held::new(&ledger, 16, layout, 0xff).free(&ledger, 16);
        // SAFETY: not zero-sized, and given back with the same layout.
        unsafe {
            let block = ledger.alloc_zeroed(layout);
            assert!(block.addr().is_multiple_of(align));
            assert!(std::slice::from_raw_parts(block, 200).iter().all(|byte| *byte == 0));
            ledger.dealloc(block, layout);
        }
    }
    assert_eq!(ledger.live(), Live::default());
    free_leftovers(ledger);
}

#[test]
fn resized_blocks_keep_bytes_alignment_and_their_place_on_the_list() {
    let ledger = LedgerAlloc::new();
    let mut held = Vec::new();
    for align in [1, 8, 16, 64, 4096] {
        let mut block = Held::new(&ledger, 16, layout(10, align), 9);
        for size in [11, 200, LARGE, 50, 1] {
            block.resize(&ledger, 16, size);
        }
        // By another thread than the one that allocated it.
        block.resize(&ledger, 32, 33);
        held.push(block);
    }
    assert_eq!(ledger.live(), live(&held));
    assert_lists_exactly(&ledger, &held);
    free_leftovers(ledger);
}

// Miri ends the program where libc would return null.
#[cfg(not(miri))]
#[test]
fn a_refused_request_leaves_books_and_block_as_they_were() {
    let ledger = LedgerAlloc::new();
    let held = Held::new(&ledger, 16, layout(64, 8), 5);
    let aligned = Held::new(&ledger, 16, layout(64, 64), 6);
    let too_much = isize::MAX as usize - 100;
    for align in [8, 64] {
        // SAFETY: valid layouts.
        unsafe {
            assert!(ledger.alloc(layout(too_much, align)).is_null());
            assert!(ledger.alloc_zeroed(layout(too_much, align)).is_null());
        }
    }
    // SAFETY: live blocks of this ledger with their layouts.
    unsafe {
        assert!(ledger.realloc(held.block, held.layout, too_much).is_null());
        assert!(ledger.realloc(aligned.block, aligned.layout, too_much).is_null());
    }
    assert_eq!(ledger.live(), Live { bytes: 128, blocks: 2 });
    held.free(&ledger, 16);
    aligned.free(&ledger, 16);
    free_leftovers(ledger);
}

#[test]
fn blocks_freed_by_another_thread_leave_the_books_and_their_slots_are_used_again() {
    let ledger = LedgerAlloc::new();
    thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<Held>(64);
        scope.spawn({
            let ledger = &ledger;
            move || {
                for _ in 0..if cfg!(miri) { 300 } else { 5_000 } {
                    let block = Held::new(ledger, super::thread_tag::current(), layout(40, 8), 4);
                    send.send(block).expect("the receiver waits");
                }
            }
        });
        let tag = super::thread_tag::current();
        receive.iter().for_each(|held| held.free(&ledger, tag));
    });
    assert_eq!(ledger.live(), Live::default());
    // In flight at most 64, two magazines: one chunk and the stack suffice.
    assert_eq!(listed(&ledger).len(), 2, "the slots came back");
    free_leftovers(ledger);
}

#[test]
fn a_thread_with_a_dead_threads_tag_inherits_its_magazine() {
    let ledger = LedgerAlloc::new();
    for round in 0..if cfg!(miri) { 20 } else { 300 } {
        let run = || Held::new(&ledger, 4096, layout(8 + round, 8), 1).free(&ledger, 4096);
        thread::scope(|scope| scope.spawn(run).join()).expect("the thread ends well");
    }
    assert_eq!(owned(&ledger), 1);
    assert_eq!(ledger.live(), Live::default());
    free_leftovers(ledger);
}

#[test]
fn threads_that_leave_give_their_magazine_and_its_slots_up() {
    let ledger = LedgerAlloc::new();
    let held: Vec<_> = (1..=1_000)
        .map(|thread| {
            let held = Held::new(&ledger, thread * 64, layout(thread, 8), 1);
            ledger.release(thread * 64);
            held
        })
        .collect();
    assert_eq!(owned(&ledger), 0);
    assert_eq!(ledger.live(), live(&held));
    assert_eq!(listed(&ledger).len(), 1_000 + 2 + 1, "two chunks and the stack");
    // A thread that never came gives nothing up.
    ledger.release(64_064);
    free_leftovers(ledger);
}

#[test]
fn a_thread_that_calls_in_through_the_allocator_can_release_itself() {
    let ledger = LedgerAlloc::new();
    let layout = layout(48, 8);
    // SAFETY: not zero-sized, and given back once with the same layout.
    unsafe {
        let block = ledger.alloc(layout);
        assert_eq!(owned(&ledger), 1);
        ledger.release_thread();
        assert_eq!(owned(&ledger), 0);
        ledger.dealloc(block, layout);
    }
    assert_eq!(owned(&ledger), 1, "it came back and claimed one");
    free_leftovers(ledger);
}

#[test]
fn more_threads_than_magazines_share_the_depot() {
    let ledger = LedgerAlloc::new();
    let threads = MAGAZINES * 2;
    let mut held: Vec<_> =
        (1..=threads).map(|thread| Held::new(&ledger, thread * 4096, layout(thread, 8), 1)).collect();
    assert!(owned(&ledger) > MAGAZINES / 2, "the tags scatter");
    let without = (1..=threads).filter(|thread| ledger.find(thread * 4096).is_none()).count();
    assert!(without >= threads - MAGAZINES);
    for (index, held) in held.iter_mut().enumerate() {
        held.resize(&ledger, (threads - index) * 4096, 2 * index + 1);
    }
    assert_eq!(ledger.live(), live(&held));
    assert_lists_exactly(&ledger, &held[..]);
    for (index, held) in held.into_iter().enumerate() {
        held.free(&ledger, (threads - index) * 4096);
    }
    assert_eq!(ledger.live(), Live::default());
    free_leftovers(ledger);
}

#[test]
fn a_thread_keeps_its_magazine_when_a_nearer_place_becomes_free() {
    let ledger = LedgerAlloc::new();
    let crowd: Vec<_> = (1..).map(|n| n * 64).filter(|tag| first_place(*tag) == 0).take(PROBES + 1).collect();
    let held: Vec<_> = crowd.iter().map(|tag| Held::new(&ledger, *tag, layout(8, 8), 1)).collect();
    assert!(ledger.find(crowd[PROBES]).is_none(), "all its places are taken");
    ledger.release(crowd[0]);
    for (held, tag) in held.into_iter().zip(&crowd) {
        let before = (*tag != crowd[0]).then(|| ledger.find(*tag)).flatten().map(std::ptr::from_ref);
        held.free(&ledger, *tag);
        let after = ledger.find(*tag).map(std::ptr::from_ref);
        assert!(before.is_none() || before == after);
    }
    assert_eq!(owned(&ledger), PROBES);
    free_leftovers(ledger);
}

#[test]
fn threads_passing_blocks_around_keep_bytes_and_books_intact() {
    const THREADS: usize = 4;
    let ledger = LedgerAlloc::new();
    let (send, receive): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::sync_channel(128)).unzip();
    let kept: Vec<Held> = thread::scope(|scope| {
        let threads: Vec<_> = receive
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| {
                let next = send[(index + 1) % THREADS].clone();
                let ledger = &ledger;
                scope.spawn(move || pass_blocks_around(ledger, index, &inbox, next))
            })
            .collect();
        drop(send);
        while threads.iter().any(|thread| !thread.is_finished()) {
            // Off by what happens meanwhile, but never by a wrap below zero.
            assert!(ledger.live().blocks < usize::MAX / 2);
            thread::yield_now();
        }
        threads.into_iter().flat_map(|thread| thread.join().expect("ends well")).collect()
    });
    assert_eq!(ledger.live(), live(&kept));
    assert_lists_exactly(&ledger, &kept);
    kept.iter().for_each(|held| held.check(held.layout.size()));
    free_leftovers(ledger);
}

/// Allocates, resizes, frees, and passes on at random; returns what it holds.
fn pass_blocks_around(
    ledger: &LedgerAlloc,
    index: usize,
    inbox: &Receiver<Held>,
    next: SyncSender<Held>,
) -> Vec<Held> {
    let tag = super::thread_tag::current();
    let end = Instant::now() + Duration::from_secs(2);
    let rounds = if cfg!(miri) { 150 } else { u64::MAX };
    let mut random = Random(index as u64 + 1);
    let mut held = Vec::new();
    for round in 0..rounds {
        if round % 1024 == 1023 {
            ledger.release_thread();
            if Instant::now() >= end {
                break;
            }
        }
        held.extend(inbox.try_recv());
        let pick = if held.is_empty() { 0 } else { random.below(held.len()) };
        match random.below(8) {
            0..4 if held.len() < 500 => {
                let steepest = if random.below(8) == 0 { 10 } else { 5 };
                let align = 1 << random.below(steepest);
                let layout = layout(1 + random.below(500), align);
                held.push(Held::new(ledger, tag, layout, random.below(256) as u8));
            }
            4 if !held.is_empty() => held[pick].resize(ledger, tag, 1 + random.below(2_000)),
            5 if !held.is_empty() => held.swap_remove(pick).free(ledger, tag),
            _ if !held.is_empty() => {
                // Full, or its receiver gone: the block stays here.
                if let Err(error) = next.try_send(held.swap_remove(pick)) {
                    let (mpsc::TrySendError::Full(back) | mpsc::TrySendError::Disconnected(back)) = error;
                    held.push(back);
                }
            }
            _ => {}
        }
    }
    // The sender goes first, so that each one's receiver sees the end.
    drop(next);
    held.extend(inbox.iter());
    held
}

#[derive(Debug, Clone)]
enum Step {
    Allocate { tag: usize, size: usize, align: u32 },
    Resize { tag: usize, pick: prop::sample::Index, size: usize },
    Free { tag: usize, pick: prop::sample::Index },
    Release { tag: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // More tags than magazines, a few of them frequent.
    let tag = || prop_oneof![3 => 1..4_usize, 1 => 1..2 * MAGAZINES].prop_map(|tag| tag * 4096);
    let size = || prop_oneof![8 => 1..300_usize, 1 => 1..LARGE];
    prop_oneof![
        6 => (tag(), size(), 0..8_u32).prop_map(|(tag, size, align)| Step::Allocate { tag, size, align }),
        2 => (tag(), any::<prop::sample::Index>(), size())
            .prop_map(|(tag, pick, size)| Step::Resize { tag, pick, size }),
        4 => (tag(), any::<prop::sample::Index>()).prop_map(|(tag, pick)| Step::Free { tag, pick }),
        1 => tag().prop_map(|tag| Step::Release { tag }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn books_and_list_match_a_model_after_any_workload(
        steps in prop::collection::vec(step(), 0..if cfg!(miri) { 200 } else { 1_500 })
    ) {
        let ledger = LedgerAlloc::new();
        let mut held: Vec<Held> = Vec::new();
        for (stamp, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate { tag, size, align } => {
                    held.push(Held::new(&ledger, tag, layout(size, 1 << align), stamp as u8));
                }
                Step::Resize { tag, pick, size } if !held.is_empty() => {
                    pick.get_mut(&mut held).resize(&ledger, tag, size);
                }
                Step::Free { tag, pick } if !held.is_empty() => {
                    held.swap_remove(pick.index(held.len())).free(&ledger, tag);
                }
                Step::Release { tag } => ledger.release(tag),
                Step::Resize { .. } | Step::Free { .. } => {}
            }
            prop_assert_eq!(ledger.live(), live(&held));
        }
        let mut listed: BTreeSet<_> = listed(&ledger).into_iter().map(|pointer| pointer.addr()).collect();
        let mut own = 0;
        ledger.depot().visit_own(&mut |_| own += 1);
        for held in &held {
            held.check(held.layout.size());
            prop_assert!(listed.remove(&held.block.addr()), "a live block is missing");
        }
        prop_assert_eq!(listed.len(), own, "freed blocks are listed");
        free_leftovers(ledger);
    }
}

fn owned(ledger: &LedgerAlloc) -> usize {
    ledger.magazines.iter().filter(|magazine| !magazine.is_owned_by(0)).count()
}

/// Marsaglia's xorshift: repeatable, and needs nothing.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}
