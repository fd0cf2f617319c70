//! A plugin's waker on this side of the ABI.
//!
//! It is woken and dropped on whatever thread of the process, at whatever time,
//! so it goes through the [`Door`] of its version. It guards against no waker
//! that blocks: the ABI demands that waking returns soon.

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
