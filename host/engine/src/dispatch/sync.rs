//! The primitives that the dispatch core is built from, in one place.
//!
//! Every atomic, lock, fence, static and thread-local of the core is made with
//! what stands here, so that the same code runs in a [model
//! checker](https://docs.rs/loom): under `--cfg loom` this file gives loom's
//! primitives in place of the real ones, and the models in `models/` try every
//! order of events that the memory model allows. This file holds no logic of
//! its own.
//!
//! Four macros stand for what loom cannot do in a `const`: [`shared`] for
//! statics, [`local`] for thread-locals, [`constructor`] for constructors of
//! what holds atomics, [`filled`] for arrays of them. Outside of models they
//! expand to just what they look like.

#[cfg(loom)]
pub(super) use modelled::*;
#[cfg(not(loom))]
pub(super) use real::*;

#[cfg(not(loom))]
mod real {
    use std::sync::PoisonError;
    use std::time::Duration;

    pub(in crate::dispatch) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
    };
    pub(in crate::dispatch) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

    /// Locks, also after a panic elsewhere: no critical section of the core
    /// runs foreign code, so what a panic leaves behind is whole.
    pub(in crate::dispatch) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` is false, or for the time given.
    pub(in crate::dispatch) fn wait_while<'a, T>(
        signal: &Condvar,
        guard: MutexGuard<'a, T>,
        at_most: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        // Poisoned or not, as with `lock`.
        let waited = signal.wait_timeout_while(guard, at_most, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The system call; false if the kernel refuses it.
    pub(in crate::dispatch) fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier reads no memory of ours; an unknown command or a
        // missing system call is an error value.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    macro_rules! shared {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)+) => {
            $($(#[$meta])* static $name: $type = $value;)+
        };
    }

    macro_rules! local {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)+) => {
            std::thread_local! { $($(#[$meta])* static $name: $type = const { $value };)+ }
        };
    }

    macro_rules! constructor {
        ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $made:ty $body:block) => {
            $(#[$meta])* $vis const fn $name($($arg: $type),*) -> $made $body
        };
    }

    macro_rules! filled {
        ($value:expr; $length:expr) => {
            [const { $value }; $length]
        };
    }

    pub(in crate::dispatch) use {constructor, filled, local, shared};
}

#[cfg(loom)]
mod modelled {
    use std::time::Duration;

    pub(in crate::dispatch) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(in crate::dispatch) use loom::sync::{Condvar, Mutex, MutexGuard};
    /// Decided once for all models, so it is no part of any.
    pub(in crate::dispatch) use std::sync::OnceLock;

    pub(in crate::dispatch) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("loom poisons no mutex")
    }

    /// A model has no time: who waits, waits until it is woken. Who is never
    /// woken is a deadlock, which loom reports.
    pub(in crate::dispatch) fn wait_while<'a, T>(
        signal: &Condvar,
        mut guard: MutexGuard<'a, T>,
        _at_most: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = signal.wait(guard).expect("loom poisons no mutex");
        }
        guard
    }

    /// membarrier makes the caller's half a fence; in a model it always is one.
    pub(in crate::dispatch) fn compiler_fence(ordering: Ordering) {
        fence(ordering);
    }

    /// And the publisher's half is another.
    pub(in crate::dispatch) fn membarrier(_command: libc::c_int) -> bool {
        fence(Ordering::SeqCst);
        true
    }

    macro_rules! shared {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)+) => {
            loom::lazy_static! { $($(#[$meta])* static ref $name: $type = $value;)+ }
        };
    }

    macro_rules! local {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)+) => {
            loom::thread_local! { $($(#[$meta])* static $name: $type = $value;)+ }
        };
    }

    macro_rules! constructor {
        ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $made:ty $body:block) => {
            $(#[$meta])* $vis fn $name($($arg: $type),*) -> $made $body
        };
    }

    macro_rules! filled {
        ($value:expr; $length:expr) => {
            std::array::from_fn(|_| $value)
        };
    }

    pub(in crate::dispatch) use {constructor, filled, local, shared};
}
