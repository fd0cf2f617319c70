//! The smallest work behind each way of calling, so that a benchmark measures
//! the way: a service method, typed interfaces, and a symbol for `dlsym`. Two
//! more symbols drive the plugin's allocator from within.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `add` | two `u64`, little endian | their sum, likewise |
//!
//! # Symbols
//!
//! `bench_add`, `alloc_churn` and `alloc_mixed`, as typed below. None unwinds.

use bench_interface::{AddVtable, AddVtableRef, Adder, row};
use replug_abi::{Interface, Status};
use replug_plugin_api::{abi_stable::prefix_type::WithMetadata, prelude::*};
use std::{
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Blocks that `alloc_mixed` holds at a time.
const HELD: usize = 1024;
/// The largest block of `alloc_mixed`, in bytes.
const SIZE_MAX: u64 = 4096;

/// What the typed interface adds to.
const NUMBER: u64 = 7;

pub(crate) struct Target {
    number: u64,
}

impl Plugin for Target {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Target { number: NUMBER })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods.method("add", "Adds two numbers", |_, call| {
            sum(call.body()).map(|sum| Reply::from(&sum.to_le_bytes()[..]))
        });
    }
}

impl Adder for Target {
    fn add(&self, x: u64) -> u64 {
        self.number.checked_add(x).expect("the sum fits")
    }
}

fn sum(body: &[u8]) -> Result<u64> {
    let (terms, rest) = body.as_chunks::<8>();
    match (terms, rest) {
        ([a, b], []) => Ok(u64::from_le_bytes(*a).wrapping_add(u64::from_le_bytes(*b))),
        _ => {
            let message = format!("expected 16 bytes, got {}", body.len());
            Err(Error::new("bench.bad_body", message))
        }
    }
}

const VALUE: WithMetadata<AddVtable> = WithMetadata::new(AddVtable { add: bench_add });
const STATIC: &WithMetadata<AddVtable> = &VALUE;

/// The row of the typed interface.
// SAFETY: `bench_add` does what the table says, and never unwinds.
pub(crate) const ROW: Interface = unsafe { row(AddVtableRef(STATIC.static_as_prefix())) };

/// The function behind both the vtable and `dlsym`.
///
/// # Safety
/// `state` and `out` are valid for a read and a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn bench_add(state: *const u64, x: u64, out: *mut u64) -> Status {
    fence(|| {
        // SAFETY: the caller's promise.
        let state = unsafe { *state };
        let sum = state.checked_add(x).expect("the sum fits");
        // SAFETY: the caller's promise.
        unsafe { *out = sum };
    })
}

/// Allocates and frees `n` blocks of `size` bytes, one after the other.
#[unsafe(no_mangle)]
extern "C" fn alloc_churn(n: u64, size: u64) -> Status {
    fence(|| {
        let size = usize::try_from(size).expect("the size fits a pointer");
        for _ in 0..n {
            drop(black_box(Vec::<u8>::with_capacity(size)));
        }
    })
}

/// Allocates `n` blocks of mixed sizes and frees them in another order: up to
/// 1024 are held at a time. The same `seed` makes the same sequence.
#[unsafe(no_mangle)]
extern "C" fn alloc_mixed(n: u64, seed: u64) -> Status {
    fence(|| {
        let mut held: Vec<Vec<u8>> = (0..HELD).map(|_| Vec::new()).collect();
        // xorshift64 has no way out of zero.
        let mut random = seed | 1;
        for _ in 0..n {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let size = 1 + (random >> 32) % SIZE_MAX;
            held[random as usize % HELD] = black_box(Vec::with_capacity(size as usize));
        }
    })
}

/// As the SDK's own exports: no panic leaves the library.
#[inline]
fn fence(body: impl FnOnce()) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => Status::OK,
        Err(payload) => {
            // The panics of this file carry text, whose drop cannot panic.
            drop(payload);
            Status::PANIC
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_add() {
        let body = [2_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
        assert_eq!(sum(&body).expect("sum"), 5);
        let mut out = 0;
        // SAFETY: both pointers are to locals.
        let status = unsafe { bench_add(&2, 3, &mut out) };
        assert_eq!((status, out), (Status::OK, 5));
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let mut out = 0;
        // SAFETY: both pointers are to locals.
        let status = unsafe { bench_add(&u64::MAX, 1, &mut out) };
        assert_eq!((status, out), (Status::PANIC, 0));
        assert_eq!(alloc_churn(1, u64::MAX), Status::PANIC);
    }

    #[test]
    fn a_body_of_another_size_is_refused() {
        assert_eq!(sum(&[0; 15]).expect_err("refused").code(), "bench.bad_body");
    }

    #[test]
    fn the_allocator_is_driven_with_any_seed() {
        assert_eq!(alloc_churn(1000, 64), Status::OK);
        for seed in [0, 1, u64::MAX] {
            assert_eq!(alloc_mixed(5000, seed), Status::OK);
        }
    }
}
