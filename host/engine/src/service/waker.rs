//! Wakers across the ABI: a plugin's on this side, and ours lent to a plugin.
//!
//! A plugin's waker is woken and dropped on whatever thread of the process, at
//! whatever time, so it goes through the [`Door`] of its version. Ours is a
//! box on the heap of the host, which stays.

use crate::load::Door;
use replug_abi::ForeignWaker;
use std::{
    ffi::c_void,
    sync::Arc,
    task::{Wake, Waker},
};

/// A waker of this side that wakes the plugin's, for as long as `door` is open.
///
/// # Safety
/// `lent` is valid now, and its functions are code of the version of `door`.
pub(super) unsafe fn adopt(lent: &ForeignWaker, door: &Arc<Door>) -> Waker {
    // SAFETY: the caller's promise: `lent` is valid.
    let data = unsafe { (lent.clone)(lent.data) };
    Waker::from(Arc::new(Foreign { data, wake: lent.wake_by_ref, drop: lent.drop, door: Arc::clone(door) }))
}

/// Lends this task's waker to the other side, which clones it to keep it.
pub(super) fn lend(waker: &Waker) -> ForeignWaker {
    ForeignWaker { data: std::ptr::from_ref(waker).cast(), clone, wake, wake_by_ref, drop: release }
}

/// A reference to a plugin's waker.
struct Foreign {
    data: *const c_void,
    wake: unsafe extern "C" fn(*const c_void),
    drop: unsafe extern "C" fn(*const c_void),
    door: Arc<Door>,
}

// SAFETY: the ABI demands that a waker's functions may be called from any
// thread.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(_inside) = self.door.enter() {
            // SAFETY: `data` is the reference that this value owns; inside of
            // the door the plugin's code is mapped.
            unsafe { (self.wake)(self.data) }
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Behind a shut door the reference is one of the version's leftovers.
        if let Some(_inside) = self.door.enter() {
            // SAFETY: the reference is given up exactly once, here; inside of
            // the door the plugin's code is mapped.
            unsafe { (self.drop)(self.data) }
        }
    }
}

/// SAFETY: `data` is a `Waker`, lent or made by this function.
unsafe extern "C" fn clone(data: *const c_void) -> *const c_void {
    // SAFETY: see above.
    let waker = unsafe { &*data.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

/// SAFETY: `data` came from `clone` and is not used afterwards.
unsafe extern "C" fn wake(data: *const c_void) {
    // SAFETY: `clone` made the box, and it is given up here.
    unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) }.wake();
}

/// SAFETY: `data` is a `Waker`, lent or made by `clone`.
unsafe extern "C" fn wake_by_ref(data: *const c_void) {
    // SAFETY: see above.
    unsafe { &*data.cast::<Waker>() }.wake_by_ref();
}

/// SAFETY: `data` came from `clone` and is not used afterwards.
unsafe extern "C" fn release(data: *const c_void) {
    // SAFETY: `clone` made the box, and it is given up here.
    drop(unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) });
}
