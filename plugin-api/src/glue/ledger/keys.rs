//! pthread keys: created without a destructor as far as libc knows, with the
//! destructor kept here, and deleted before the library goes.

use super::Real;
use std::{
    ffi::{c_int, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

pub(super) static CREATE: Real = Real::new(c"pthread_key_create");
pub(super) static DELETE: Real = Real::new(c"pthread_key_delete");

type Destructor = unsafe extern "C" fn(*mut c_void);

/// glibc's `PTHREAD_KEYS_MAX`: a key is an index below it.
const KEYS_MAX: usize = 1024;
const NOT_OURS: usize = 0;
const NO_DESTRUCTOR: usize = 1;

/// By key: not ours, ours without a destructor, or the destructor's address.
/// Release on creation pairs with acquire in `detach`, so that a thread that
/// sees a key sees its destructor.
static KEYS: [AtomicUsize; KEYS_MAX] = [const { AtomicUsize::new(NOT_OURS) }; KEYS_MAX];

/// Stands in for `pthread_key_create`.
///
/// # Safety
/// As `pthread_key_create`.
pub unsafe extern "C" fn key_create(key: *mut libc::pthread_key_t, destructor: Option<Destructor>) -> c_int {
    type Create = unsafe extern "C" fn(*mut libc::pthread_key_t, Option<Destructor>) -> c_int;
    let create = CREATE.resolve();
    if create == 0 {
        return libc::ENOSYS;
    }
    // SAFETY: the address is libc's function of this name and type.
    let create = unsafe { std::mem::transmute::<usize, Create>(create) };
    // SAFETY: the caller's promise about `key`.
    let result = unsafe { create(key, None) };
    if result != 0 {
        return result;
    }
    // SAFETY: the call succeeded, so it wrote the key.
    let created = unsafe { *key } as usize;
    let Some(slot) = KEYS.get(created) else {
        // SAFETY: the key was created just above.
        unsafe { key_delete(created as libc::pthread_key_t) };
        return libc::EAGAIN;
    };
    slot.store(destructor.map_or(NO_DESTRUCTOR, |run| run as usize), Ordering::Release);
    0
}

/// Stands in for `pthread_key_delete`.
///
/// # Safety
/// As `pthread_key_delete`.
pub unsafe extern "C" fn key_delete(key: libc::pthread_key_t) -> c_int {
    type Delete = unsafe extern "C" fn(libc::pthread_key_t) -> c_int;
    let delete = DELETE.resolve();
    if delete == 0 {
        return libc::ENOSYS;
    }
    if let Some(slot) = KEYS.get(key as usize) {
        slot.store(NOT_OURS, Ordering::Release);
    }
    // SAFETY: the address is libc's function of this name and type.
    let delete = unsafe { std::mem::transmute::<usize, Delete>(delete) };
    // SAFETY: the caller's promise.
    unsafe { delete(key) }
}

/// Runs the destructors of this thread's values, once each. Returns how many.
pub(super) fn run_destructors() -> u64 {
    let mut ran = 0;
    for (key, slot) in KEYS.iter().enumerate() {
        let destructor = slot.load(Ordering::Acquire);
        if destructor == NOT_OURS {
            continue;
        }
        let key = key as libc::pthread_key_t;
        // SAFETY: the key is ours and not deleted.
        let value = unsafe { libc::pthread_getspecific(key) };
        if value.is_null() {
            continue;
        }
        // SAFETY: as above.
        unsafe { libc::pthread_setspecific(key, std::ptr::null()) };
        if destructor != NO_DESTRUCTOR {
            // SAFETY: the slot holds the address of a destructor given to
            // `key_create`; the value is what this thread set for the key.
            unsafe { std::mem::transmute::<usize, Destructor>(destructor)(value) };
            ran += 1;
        }
    }
    ran
}

/// Deletes every key of this plugin. Returns how many there were.
pub(super) fn release() -> u64 {
    let mut deleted = 0;
    for (key, slot) in KEYS.iter().enumerate() {
        if slot.load(Ordering::Acquire) != NOT_OURS {
            // SAFETY: the key is ours; no thread of the plugin runs any more.
            unsafe { key_delete(key as libc::pthread_key_t) };
            deleted += 1;
        }
    }
    deleted
}
