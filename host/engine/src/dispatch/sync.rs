//! The primitives that the dispatch core is built from, in one place.
//!
//! Every atomic, lock and fence of the core is imported from here, so that a
//! model checker's versions can be put in their place by changing this file
//! alone. It holds no logic of its own.

use std::sync::PoisonError;

pub(super) use std::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

/// Locks, also after a panic elsewhere: no critical section of the core runs
/// foreign code, so what a panic leaves behind is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
