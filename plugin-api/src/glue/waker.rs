//! A waker of the other side, as a waker of this side's std.

use replug_abi::ForeignWaker;
use std::{
    ffi::c_void,
    sync::Arc,
    task::{Wake, Waker},
};

/// Owns one reference to the other side's task.
struct Foreign {
    data: *const c_void,
    wake: unsafe extern "C" fn(*const c_void),
    drop: unsafe extern "C" fn(*const c_void),
}

// SAFETY: `ForeignWaker` demands that its functions may be called from any
// thread.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // SAFETY: `data` is the reference that this value owns.
        unsafe { (self.wake)(self.data) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the reference is given up exactly once, here.
        unsafe { (self.drop)(self.data) }
    }
}

/// A waker of this side that keeps a clone of the lent one.
pub(crate) fn from_foreign(lent: &ForeignWaker) -> Waker {
    // SAFETY: `lent` is valid during the call that lent it.
    let data = unsafe { (lent.clone)(lent.data) };
    Waker::from(Arc::new(Foreign { data, wake: lent.wake_by_ref, drop: lent.drop }))
}
