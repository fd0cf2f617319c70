//! Warm calls allocate nothing: counted by an allocator that everything of this
//! program goes through, but for the plugins, which have one of their own.
//!
//! A call is warm when its thread has called that version before. Counts are
//! per thread, so that what the host does meanwhile is not in them.

use replug_host::dispatch::{Arm, Outside, Payload, Route, Share, Slot, Version};
use replug_tests::{artifacts, harness::Harness};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    time::Duration,
};

const CALLS: u64 = 10_000;

/// The system's allocator, with a count.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // Neither allocates nor is ever dropped, so the allocator may use it.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: all is done by the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // To free is to have allocated.
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Allocations and frees of many warm calls; each is told its number.
fn allocations_of(call: impl Fn(u64)) -> u64 {
    // Enough for both versions of a split to be warm.
    (0..1_000).for_each(&call);
    let before = ALLOCATIONS.get();
    (0..CALLS).for_each(&call);
    ALLOCATIONS.get() - before
}

struct Plugin(u64);

impl Payload for Plugin {
    fn detach_thread(&self, _: &Outside) -> u64 {
        0
    }
}

fn slot() -> Slot<Plugin> {
    let slot = Slot::new(Duration::from_secs(1));
    slot.publish(version(1)).expect("the gate is open");
    slot
}

fn split() -> Slot<Plugin> {
    let (slot, half) = (slot(), Share::from_basis_points(5_000).expect("at most the whole"));
    slot.split(version(2), half, 1).expect("the gate is open");
    slot
}

fn version(number: u64) -> Version<Plugin> {
    Version::new(Plugin(number)).expect("tests use few versions")
}

#[test]
fn what_allocates_is_seen() {
    assert_eq!(allocations_of(|number| drop(black_box(Box::new(number)))), 2 * CALLS);
}

#[test]
fn calls_allocate_nothing() {
    let slot = slot();
    let call = |_| assert_eq!(black_box(slot.enter(|entered| entered.payload().0)), Ok(1));
    assert_eq!(allocations_of(call), 0);
    let calls = slot.counters().calls;
    assert_eq!(calls, CALLS + 1_000, "they were made");
}

#[test]
fn nested_calls_allocate_nothing() {
    let (outer, inner) = (slot(), slot());
    let call = |_| {
        let answer = outer.enter(|_| inner.enter(|_| outer.enter(|entered| entered.payload().0)));
        assert_eq!(black_box(answer), Ok(Ok(Ok(1))));
    };
    assert_eq!(allocations_of(call), 0);
}

#[test]
fn calls_by_key_and_by_sequence_allocate_nothing_while_two_versions_serve() {
    let slot = split();
    let by_key = |number: u64| {
        let key = number.to_le_bytes();
        assert!(black_box(slot.enter_routed(Route::Key(&key), |entered| entered.payload().0)).is_ok());
    };
    assert_eq!(allocations_of(by_key), 0);
    let by_sequence = |_| assert!(black_box(slot.enter(|entered| entered.payload().0)).is_ok());
    assert_eq!(allocations_of(by_sequence), 0);
    let challenger = slot.counters_at(Arm::Challenger).expect("it is split").calls;
    assert!(challenger > CALLS / 2, "both versions were called, the other one {challenger} times");
}

#[test]
fn a_handle_enters_a_plugin_without_an_allocation() {
    let mut harness = Harness::new();
    harness.deploy(&artifacts::plugin("markdown-v1"), "markdown-1.0.0.so", "markdown@1.0.0");
    let markdown = harness.plugin("markdown");
    let major = |number: u64| {
        let key = number.to_le_bytes();
        let entered = markdown.enter(|entered| entered.payload().id().version.major);
        let routed = markdown.enter_routed(Route::Key(&key), |entered| entered.payload().id().version.major);
        assert_eq!(black_box((entered, routed)), (Ok(1), Ok(1)));
    };
    assert_eq!(allocations_of(major), 0);
}
