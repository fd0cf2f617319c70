//! Threads that a plugin starts: counted in by the host, and counted out in the
//! host's own text, so that none executes the plugin's code afterwards.

use replug_abi::{LedgerHost, LedgerVtableRef, ThreadStart};
use std::{
    collections::BTreeSet,
    ffi::c_void,
    fs,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Bytes of the alternate signal stack of a plugin's thread, enough for the
/// handler of a fatal signal.
const SIGNAL_STACK_BYTES: usize = 64 * 1024;

/// The threads of one loaded version.
///
/// Shared with each of its threads: the last steps of a thread touch the books
/// after it has left the plugin.
#[derive(Default)]
pub struct ThreadBooks {
    ledger: OnceLock<LedgerVtableRef>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    /// Counted in by the creating thread, so that a thread that has not run yet
    /// counts.
    count: usize,
    /// Kernel ids of those that have begun to run.
    ids: BTreeSet<libc::pid_t>,
}

impl ThreadBooks {
    /// Threads that have not ended.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    /// Names of the threads that run, as the kernel knows them.
    pub fn names(&self) -> Vec<String> {
        let ids: Vec<_> = self.lock().ids.iter().copied().collect();
        ids.into_iter()
            .map(|id| match fs::read_to_string(format!("/proc/self/task/{id}/comm")) {
                Ok(name) => name.trim_end().to_owned(),
                Err(_) => format!("thread {id}"),
            })
            .collect()
    }

    /// What the plugin's ledger gets. `self` must live until the library is
    /// unmapped and every thread has ended; the books of a version do.
    pub(super) fn ledger_host(self: &Arc<Self>, ledger: LedgerVtableRef) -> LedgerHost {
        // A second handshake with the same books gives the same ledger.
        let _ = self.ledger.set(ledger);
        LedgerHost { context: Arc::as_ptr(self).cast(), spawn }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a new thread is handed.
struct Start {
    books: Arc<ThreadBooks>,
    start: ThreadStart,
    argument: *mut c_void,
}

/// SAFETY: `context` is the pointer of an `Arc<ThreadBooks>` that its version
/// keeps alive; the rest is as for `pthread_create`.
unsafe extern "C" fn spawn(
    context: *const c_void,
    thread: *mut c_void,
    attributes: *const c_void,
    start: ThreadStart,
    argument: *mut c_void,
) -> i32 {
    let books = context.cast::<ThreadBooks>();
    // SAFETY: the version's own reference keeps the count above zero.
    let books = unsafe {
        Arc::increment_strong_count(books);
        Arc::from_raw(books)
    };
    books.lock().count += 1;
    let start = Box::into_raw(Box::new(Start { books, start, argument }));
    // SAFETY: thread and attributes are the caller's; `main` takes the box.
    let result = unsafe { libc::pthread_create(thread.cast(), attributes.cast(), main, start.cast()) };
    if result != 0 {
        // SAFETY: no thread was created, so the box is still ours.
        let start = unsafe { Box::from_raw(start) };
        start.books.lock().count -= 1;
    }
    result
}

/// First and last steps of a plugin's thread.
extern "C" fn main(start: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made the box for this thread.
    let Start { books, start, argument } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    // SAFETY: the call has no preconditions.
    let id = unsafe { libc::gettid() };
    books.lock().ids.insert(id);
    let signal_stack = SignalStack::install();
    // SAFETY: start routine and argument belong together, as the creator said;
    // the plugin is not unmapped while this thread is counted.
    let result = unsafe { (start.0)(argument) };
    if let Some(ledger) = books.ledger.get() {
        // SAFETY: the thread is outside the plugin and still counted.
        unsafe { ledger.detach()() };
    }
    drop(signal_stack);
    let mut running = books.lock();
    running.ids.remove(&id);
    running.count -= 1;
    drop(running);
    result
}

/// An alternate signal stack: the plugin's std installs none, and without one
/// a stack overflow could not be reported.
struct SignalStack {
    memory: *mut c_void,
}

impl SignalStack {
    fn install() -> Option<SignalStack> {
        // SAFETY: a fresh anonymous mapping, given to this thread only.
        unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                SIGNAL_STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED {
                return None;
            }
            let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: SIGNAL_STACK_BYTES };
            if libc::sigaltstack(&stack, std::ptr::null_mut()) != 0 {
                libc::munmap(memory, SIGNAL_STACK_BYTES);
                return None;
            }
            Some(SignalStack { memory })
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: the stack is taken from the kernel before it is unmapped, on
        // the thread that installed it.
        unsafe {
            let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            libc::sigaltstack(&none, std::ptr::null_mut());
            libc::munmap(self.memory, SIGNAL_STACK_BYTES);
        }
    }
}
