//! `replug.service`: a method's name and bytes in, bytes or an error out.

use crate::{Instance, InterfaceVersion, Request, Sink, Status};
use abi_stable::StableAbi;
use std::{ffi::c_void, task::Waker};

/// The interface's id.
pub const ID: &str = "replug.service";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 0, 0);

/// A call that was started and has not been answered. Made by `start`, ended
/// by `cancel`, whether answered or not.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct Pending(#[sabi(unsafe_opaque_field)] pub *mut c_void);

// SAFETY: the SDK keeps only `Send` futures behind a pending call, and the
// host polls it from one thread at a time.
unsafe impl Send for Pending {}

impl Pending {
    /// No pending call.
    pub const NULL: Pending = Pending(std::ptr::null_mut());
}

/// The waker of the other side's task.
///
/// Thread: all functions may be called from any thread, those that serve every
/// plugin's deadlines and hand-overs among them. So each returns soon, as
/// marking a task as ready does: it runs no task, does no input or output, and
/// takes no lock that anybody holds across a call into the other side. One that
/// blocks holds up every plugin of the host. Owner: whoever holds the value
/// calls `drop` or `wake` exactly once; `poll` lends one, of which the callee
/// keeps a clone.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct ForeignWaker {
    /// Opaque to the callee.
    pub data: *const c_void,
    /// Makes another waker of the same task.
    pub clone: unsafe extern "C" fn(data: *const c_void) -> *const c_void,
    /// Wakes and consumes.
    pub wake: unsafe extern "C" fn(data: *const c_void),
    /// Wakes and keeps.
    pub wake_by_ref: unsafe extern "C" fn(data: *const c_void),
    /// Consumes without waking.
    pub drop: unsafe extern "C" fn(data: *const c_void),
}

impl ForeignWaker {
    /// Lends a waker of this side for a call. The other side clones the result
    /// to keep it; the result itself borrows `waker`, and is neither woken by
    /// value nor dropped.
    pub fn lend(waker: &Waker) -> ForeignWaker {
        ForeignWaker { data: std::ptr::from_ref(waker).cast(), clone, wake, wake_by_ref, drop: release }
    }
}

/// SAFETY: `data` is a `Waker`, lent or made by this function.
unsafe extern "C" fn clone(data: *const c_void) -> *const c_void {
    // SAFETY: see above; cloning needs a shared reference only.
    let waker = unsafe { &*data.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

/// SAFETY: `data` came from `clone` and is not used afterwards.
unsafe extern "C" fn wake(data: *const c_void) {
    // SAFETY: `clone` made it with `Box::into_raw`, and it is given up here.
    unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) }.wake();
}

/// SAFETY: `data` is a `Waker`, lent or made by `clone`.
unsafe extern "C" fn wake_by_ref(data: *const c_void) {
    // SAFETY: see above.
    unsafe { &*data.cast::<Waker>() }.wake_by_ref();
}

/// SAFETY: `data` came from `clone` and is not used afterwards.
unsafe extern "C" fn release(data: *const c_void) {
    // SAFETY: `clone` made it with `Box::into_raw`, and it is given up here.
    drop(unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) });
}

/// The vtable of the interface.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ServiceVtableRef, prefix_fields = ServiceVtablePrefix)))]
pub struct ServiceVtable {
    /// Calls a method and waits for its answer. Thread: any, concurrently.
    pub call: unsafe extern "C" fn(instance: Instance, request: &Request<'_>, sink: &Sink) -> Status,
    /// Starts a method. [`Status::OK`]: answered at once, `out` untouched.
    /// [`Status::PENDING`]: `out` is set, to be polled. The request is copied
    /// where it must outlive this function.
    pub start: unsafe extern "C" fn(
        instance: Instance,
        request: &Request<'_>,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status,
    /// Asks for the answer; [`Status::PENDING`] keeps a clone of the waker.
    /// Not to be called again after another status.
    pub poll: unsafe extern "C" fn(pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status,
    /// Ends a pending call: an unanswered one is cancelled.
    pub cancel: unsafe extern "C" fn(pending: Pending) -> Status,
    /// Writes the methods to the body: a JSON array of
    /// `{"name":…,"kind":"sync"|"async","description":…}`. Where its calls may be made
    /// once more, with `"repeatable":true`, and examples of bodies as `"samples"`: text, or
    /// an array of bytes. More may follow.
    #[sabi(last_prefix_field)]
    pub methods: unsafe extern "C" fn(instance: Instance, sink: &Sink) -> Status,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn clones_of_a_lent_waker_wake_its_task_and_give_it_up() {
        let task = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&task));
        let lent = ForeignWaker::lend(&waker);
        // SAFETY: `waker` lives; each clone is woken by value or dropped once.
        unsafe {
            let (one, two) = ((lent.clone)(lent.data), (lent.clone)(lent.data));
            let three = (lent.clone)(one);
            (lent.wake_by_ref)(three);
            (lent.wake)(one);
            (lent.drop)(two);
            (lent.drop)(three);
        }
        drop(waker);
        assert_eq!(task.0.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&task), 1, "no clone is left");
    }
}
