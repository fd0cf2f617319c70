//! Threads and their thread-local destructors.

use super::{Real, keys};
use replug_abi::{LedgerHost, ThreadStart};
use std::{
    cell::UnsafeCell,
    ffi::{c_int, c_void},
    mem::ManuallyDrop,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) static CREATE: Real = Real::new(c"pthread_create");

type Destructor = unsafe extern "C" fn(*mut c_void);

/// The host's part of the ledger, once it is installed.
static HOST: OnceLock<Installed> = OnceLock::new();

/// Threads started before the host installed its part.
static UNMANAGED: AtomicU64 = AtomicU64::new(0);

/// A destructor may register further ones; libc stops after four rounds
/// (`PTHREAD_DESTRUCTOR_ITERATIONS`), and so does this.
const ROUNDS_MAX: usize = 4;

struct Installed(LedgerHost);

// SAFETY: the host allows its functions to be called from any thread.
unsafe impl Send for Installed {}
// SAFETY: as above.
unsafe impl Sync for Installed {}

thread_local! {
    // `ManuallyDrop`: a destructor of this list would register itself in it.
    static DESTRUCTORS: UnsafeCell<ManuallyDrop<Vec<(Destructor, *mut c_void)>>> =
        const { UnsafeCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Stands in for `__cxa_thread_atexit_impl` and `__cxa_thread_atexit`.
///
/// # Safety
/// As `__cxa_thread_atexit_impl`.
pub unsafe extern "C" fn register_destructor(
    destructor: Destructor,
    object: *mut c_void,
    _dso: *mut c_void,
) -> c_int {
    DESTRUCTORS.with(|list| {
        // SAFETY: only this thread touches the list, and no reference to it is
        // held while other code runs.
        unsafe { (*list.get()).push((destructor, object)) };
    });
    0
}

/// Stands in for `pthread_create`.
///
/// # Safety
/// As `pthread_create`.
pub unsafe extern "C" fn thread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> c_int {
    if let Some(Installed(host)) = HOST.get() {
        // SAFETY: the host keeps its part valid while the library is loaded;
        // the arguments are the caller's.
        return unsafe { (host.spawn)(host.context, thread, attributes, ThreadStart(start), argument) };
    }
    type Create = unsafe extern "C" fn(
        *mut c_void,
        *const c_void,
        unsafe extern "C" fn(*mut c_void) -> *mut c_void,
        *mut c_void,
    ) -> c_int;
    let create = CREATE.resolve();
    if create == 0 {
        return libc::ENOSYS;
    }
    // Before it runs: who sees the thread also sees it counted.
    UNMANAGED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the address is libc's function of this name and type; the
    // arguments are the caller's.
    let result = unsafe { std::mem::transmute::<usize, Create>(create)(thread, attributes, start, argument) };
    if result != 0 {
        UNMANAGED.fetch_sub(1, Ordering::Relaxed);
    }
    result
}

/// Takes the host's part over. Returns false when it was there already.
pub(super) fn install(host: &LedgerHost) -> bool {
    HOST.set(Installed(*host)).is_ok()
}

pub(super) fn unmanaged() -> u64 {
    UNMANAGED.load(Ordering::Relaxed)
}

/// Runs what this thread owes the plugin: thread-local destructors, last
/// registered first, and destructors of pthread keys.
pub(super) fn detach() -> u64 {
    let mut ran = 0;
    for _ in 0..ROUNDS_MAX {
        let before = ran;
        while let Some((destructor, object)) = pop() {
            // SAFETY: registered for this object by its owner, on this thread.
            unsafe { destructor(object) };
            ran += 1;
        }
        ran += keys::run_destructors();
        if ran == before {
            break;
        }
    }
    free_list();
    ran
}

fn pop() -> Option<(Destructor, *mut c_void)> {
    // SAFETY: as in `register_destructor`; the borrow ends before the
    // destructor runs, which may push.
    DESTRUCTORS.with(|list| unsafe { (*list.get()).pop() })
}

fn free_list() {
    DESTRUCTORS.with(|list| {
        // SAFETY: as in `register_destructor`.
        let list = unsafe { &mut *list.get() };
        if list.is_empty() {
            drop(ManuallyDrop::into_inner(std::mem::replace(list, ManuallyDrop::new(Vec::new()))));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
        std::ptr::null_mut()
    }

    /// It was counted as one that nobody can count out: resident for ever.
    #[test]
    fn a_thread_that_cannot_be_started_is_not_counted() {
        let mut thread: libc::pthread_t = 0;
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: the attributes are initialised first, and a thread that is
        // not started leaves nothing behind.
        let result = unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), 1 << 50);
            thread_create((&raw mut thread).cast(), attributes.as_ptr().cast(), nothing, std::ptr::null_mut())
        };
        assert_ne!(result, 0, "no address space is so large");
        assert_eq!(unmanaged(), 0);
    }
}
