//! A loaded library, the instance in it, and their end.
//!
//! long: every function of a plugin that the engine calls stands here once,
//! beside the promise that makes it sound.

use super::{
    answer::{Answer, AnswerLimits},
    door::Door,
    handshake::{self, Handshake, HandshakeError, InterfaceRow},
    hooks::{Hook, HookError, HookErrorKind, StepInfo},
    library::{Kept, Library, OpenError},
    proof::{self, Pin, Residue},
    remains::Remains,
    threads::ThreadBooks,
};
use crate::{
    artifact::{inspect::Manifest, stage::PrivateCopy},
    failure::{Code, Failure},
};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{
    BlockVisitor, ForeignWaker, HeapUse, HostContext, Instance, LedgerHost, Pending, Request, Sink, Status,
};
use std::{
    any::Any,
    ffi::c_void,
    mem::ManuallyDrop,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of what a plugin says about itself: lists of steps and methods.
const SELF_DESCRIPTION: AnswerLimits = AnswerLimits { body_bytes_max: 1024 * 1024 };

/// A library that passed the handshake. It has no instance yet.
///
/// Dropping it leaves the library mapped; [`close`](Loaded::close) ends it.
pub struct Loaded {
    handshake: Handshake,
    addresses: Range<usize>,
    door: Arc<Door>,
    // These two are pointed to by code that stays mapped when this value is
    // dropped without being closed; then they stay too.
    books: ManuallyDrop<Arc<ThreadBooks>>,
    contexts: ManuallyDrop<Vec<Box<dyn Any + Send + Sync>>>,
    // The ledger in the plugin keeps a copy that points to `books`.
    _ledger_host: LedgerHost,
    library: Library,
    copy: PrivateCopy,
}

// SAFETY: the raw pointers inside are those of `LedgerHost`, which points to
// `books`, shared by design.
unsafe impl Send for Loaded {}
// SAFETY: as above; all functions behind the vtables may be called from any
// thread, as the ABI demands.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Opens a private copy and checks that it fits this host. Its constructors
    /// run, and nothing else of it.
    ///
    /// # Errors
    /// [`NotLoaded`]; the library is unmapped again, or among what remains.
    pub fn open(copy: PrivateCopy) -> Result<Loaded, NotLoaded> {
        // SAFETY: running a plugin's constructors is what the operator asked
        // for by dropping the file; what could be read without it was.
        let library = match unsafe { Library::open(copy.path()) } {
            Ok(library) => library,
            Err(error) => return Err(NotLoaded { error: error.into(), remains: None }),
        };
        // Without them nobody could tell a signal handler of the plugin from
        // another, nor prove that the library is gone.
        let Some(addresses) = proof::address_range(copy.path()) else {
            let error = LoadError::NotFound { path: copy.path().to_owned() };
            return Err(NotLoaded::closing(error, library, copy));
        };
        let handshake = match handshake::shake(&library) {
            Ok(handshake) => handshake,
            Err(error) => return Err(NotLoaded::closing(error.into(), library, copy)),
        };
        let books = ManuallyDrop::new(Arc::new(ThreadBooks::default()));
        let ledger_host = books.ledger_host(handshake.ledger);
        // SAFETY: `books` lives as long as `Loaded` and longer than any thread
        // of the plugin.
        if let Err(error) = unsafe { handshake.install(&ledger_host) } {
            // What the library kept of `books` is not known; they are not
            // dropped.
            return Err(NotLoaded::closing(error.into(), library, copy));
        }
        Ok(Loaded {
            handshake,
            addresses,
            door: Arc::default(),
            books,
            contexts: ManuallyDrop::new(Vec::new()),
            _ledger_host: ledger_host,
            library,
            copy,
        })
    }

    /// The name that the code gives itself.
    pub fn name(&self) -> &str {
        &self.handshake.name
    }

    /// The semver that the code gives itself.
    pub fn version(&self) -> &str {
        &self.handshake.version
    }

    /// The private copy.
    pub fn path(&self) -> &Path {
        self.library.path()
    }

    /// The interfaces on offer.
    pub fn interfaces(&self) -> impl ExactSizeIterator<Item = InterfaceRow<'_>> {
        self.handshake.interfaces()
    }

    /// What the code says about itself otherwise than the note of the same file:
    /// the note's words, and the code's.
    pub(crate) fn contradiction(&self, manifest: &Manifest) -> Option<(String, String)> {
        self.handshake.contradiction(manifest)
    }

    /// The plugin's threads.
    pub fn threads(&self) -> &ThreadBooks {
        &self.books
    }

    /// What wakers of the plugin go through, on threads of the host.
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Live heap blocks of the plugin; `None` when its author opted out.
    pub fn heap(&self) -> Option<HeapUse> {
        let mut heap = HeapUse::default();
        // SAFETY: the ledger may be asked from any thread while it is loaded.
        let status = unsafe { self.handshake.ledger.heap()(&mut heap) };
        status.is_ok().then_some(heap)
    }

    /// Runs this thread's destructors of the plugin. Returns how many ran.
    ///
    /// # Safety
    /// This thread is outside of the plugin's code and does not enter it again:
    /// a destroyed thread-local cannot be used any more.
    pub unsafe fn detach_thread(&self) -> u64 {
        // SAFETY: the library is loaded while `self` lives, and the caller's
        // promise.
        unsafe { self.handshake.ledger.detach()() }
    }

    /// Builds an instance. `keep` is what `context` points into; it is freed
    /// after the library.
    ///
    /// # Errors
    /// The hook's; the library is still loaded then.
    ///
    /// # Safety
    /// `context` points into `keep`, or to what lives as long as the process,
    /// and its vtable is a `HostVtableRef`.
    pub unsafe fn prepare(
        &mut self,
        context: HostContext,
        keep: Box<dyn Any + Send + Sync>,
        config: &str,
    ) -> Result<Instance, HookError> {
        self.contexts.push(keep);
        let mut instance = Instance::NULL;
        // SAFETY: `context` is valid until the library is closed, since `keep`
        // is, as the caller promises; the out pointer is a local.
        self.run(Hook::Prepare, |sink| unsafe {
            self.handshake.instance.prepare()(context, RStr::from_str(config), &mut instance, sink)
        })?;
        Ok(instance)
    }

    /// Runs a hook that takes the instance only.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed;
    /// hooks of an instance run one at a time.
    pub unsafe fn hook(&self, hook: Hook, instance: Instance) -> Result<(), HookError> {
        let vtable = self.handshake.instance;
        let function = match hook {
            Hook::Activate => vtable.activate(),
            Hook::SelfTest => vtable.self_test(),
            Hook::Freeze => vtable.freeze(),
            Hook::Thaw => vtable.thaw(),
            Hook::Drop => vtable.destroy(),
            Hook::Prepare
            | Hook::Restore
            | Hook::Export
            | Hook::Migrate
            | Hook::Steps
            | Hook::Methods
            | Hook::Stop => {
                let reason = "the host called it in a way that it does not have".to_owned();
                return Err(HookError { hook, kind: HookErrorKind::Failed, reason });
            }
        };
        // SAFETY: the caller's promise.
        self.run(hook, |sink| unsafe { function(instance, sink) }).map(drop)
    }

    /// Ends what the instance runs; waits for its threads until the deadline.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// As [`hook`](Loaded::hook).
    pub unsafe fn stop(&self, instance: Instance, deadline_ns: u64) -> Result<(), HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Stop, |sink| unsafe { self.handshake.instance.stop()(instance, deadline_ns, sink) })
            .map(drop)
    }

    /// Hands state over to an instance that is not in use yet.
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// As [`hook`](Loaded::hook), and nothing else uses the instance.
    pub unsafe fn restore(
        &self,
        instance: Instance,
        schema_version: u32,
        state: &[u8],
    ) -> Result<(), HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Restore, |sink| unsafe {
            self.handshake.instance.restore()(instance, schema_version, RSlice::from_slice(state), sink)
        })
        .map(drop)
    }

    /// The instance's state.
    ///
    /// # Errors
    /// The hook's; more than `bytes_max` bytes are refused.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed.
    pub unsafe fn export(&self, instance: Instance, bytes_max: usize) -> Result<Vec<u8>, HookError> {
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: the caller's promise.
        self.run_within(Hook::Export, limits, |sink| unsafe {
            self.handshake.instance.export()(instance, sink)
        })
        .map(|answer| answer.body)
    }

    /// Converts state by one step; `None` when the plugin has no such step.
    ///
    /// # Errors
    /// The hook's.
    pub fn migrate(
        &self,
        from: u32,
        to: u32,
        state: &[u8],
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, HookError> {
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: needs no instance; bytes are borrowed for the call.
        let (status, answer) = Answer::collect(limits, |sink| unsafe {
            self.handshake.instance.migrate()(from, to, RSlice::from_slice(state), sink)
        });
        if status == Status::NO_STEP {
            return Ok(None);
        }
        match HookError::from_status(Hook::Migrate, limits, status, &answer) {
            Some(error) => Err(error),
            None => Ok(Some(answer.body)),
        }
    }

    /// The migration steps that this version offers.
    ///
    /// # Errors
    /// The hook's.
    pub fn steps(&self) -> Result<Vec<StepInfo>, HookError> {
        // SAFETY: needs no instance.
        let answer = self.run(Hook::Steps, |sink| unsafe { self.handshake.instance.steps()(sink) })?;
        serde_json::from_slice(&answer.body).map_err(|error| HookError {
            hook: Hook::Steps,
            kind: HookErrorKind::Lied,
            reason: error.to_string(),
        })
    }

    /// The list of methods as the plugin wrote it (JSON).
    ///
    /// # Errors
    /// The hook's.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and was not destroyed.
    pub unsafe fn methods(&self, instance: Instance) -> Result<Vec<u8>, HookError> {
        // SAFETY: the caller's promise.
        self.run(Hook::Methods, |sink| unsafe { self.handshake.service.methods()(instance, sink) })
            .map(|answer| answer.body)
    }

    /// Calls a method and waits.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and is not destroyed while
    /// the call runs.
    #[inline]
    pub unsafe fn call(&self, instance: Instance, request: &Request<'_>, sink: &Sink) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.call()(instance, request, sink) }
    }

    /// Starts a method; see the ABI for the statuses.
    ///
    /// # Safety
    /// As [`call`](Loaded::call), until the pending call is cancelled.
    pub unsafe fn start(
        &self,
        instance: Instance,
        request: &Request<'_>,
        out: &mut Pending,
        sink: &Sink,
    ) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.start()(instance, request, out, sink) }
    }

    /// Polls a started call.
    ///
    /// # Safety
    /// `pending` came from [`start`](Loaded::start) and was not cancelled.
    pub unsafe fn poll(&self, pending: Pending, waker: &ForeignWaker, sink: &Sink) -> Status {
        // SAFETY: the caller's promise.
        unsafe { self.handshake.service.poll()(pending, waker, sink) }
    }

    /// Ends a started call.
    ///
    /// # Safety
    /// `pending` came from [`start`](Loaded::start) and is not used afterwards.
    pub unsafe fn cancel(&self, pending: Pending) {
        // SAFETY: the caller's promise. A panic while cancelling was caught on
        // the other side; the call is over either way.
        let _ = unsafe { self.handshake.service.cancel()(pending) };
    }

    /// Unmaps the library, if nothing of it runs, and proves it.
    ///
    /// # Safety
    /// No call is in flight, every instance is destroyed, every host thread has
    /// detached or was abandoned for good, and nobody holds a pointer into the
    /// plugin.
    pub unsafe fn close(self) -> Closed {
        let mut pins = self.pins();
        // Threads of the plugin may wait to be woken, so the door is shut when
        // they have ended; and a waker may have started one meanwhile.
        if pins.is_empty() {
            pins = if self.door.shut() { self.pins() } else { vec![Pin::Wakers] };
        }
        if !pins.is_empty() {
            return Closed::Pinned { loaded: Box::new(self), pins };
        }
        let Loaded { handshake, books, contexts, library, copy, .. } = self;
        // SAFETY: all threads have left; this one ran code of the plugin too.
        let (bytes, blocks) = unsafe {
            handshake.ledger.detach()();
            handshake.ledger.release()();
            let mut heap = HeapUse::default();
            // Without books there is nothing to free.
            let _ = handshake.ledger.heap()(&mut heap);
            let mut blocks: Vec<*mut c_void> = Vec::new();
            let visitor = BlockVisitor { context: std::ptr::from_mut(&mut blocks).cast(), visit };
            let _ = handshake.ledger.leftovers()(&visitor);
            (heap.bytes, blocks)
        };
        let remains = Remains { blocks, bytes, companions: Vec::new(), books, contexts, copy };
        // SAFETY: the caller's promise, and no thread of the plugin runs.
        match unsafe { library.close() } {
            Ok(companions) => Closed::Unmapped(remains.free(companions)),
            Err(Kept { pins, companions }) => {
                Closed::Lingering { remains: Box::new(Remains { companions, ..remains }), pins }
            }
        }
    }

    /// What would keep the library from being unmapped now.
    fn pins(&self) -> Vec<Pin> {
        let mut pins = Vec::new();
        if self.books.count() > 0 {
            pins.push(Pin::Threads(self.books.names()));
        }
        // SAFETY: the ledger may be asked from any thread while it is loaded.
        let unmanaged = unsafe { self.handshake.ledger.unmanaged_threads()() };
        if unmanaged > 0 {
            pins.push(Pin::UnmanagedThreads(unmanaged));
        }
        pins.extend(proof::signal_handlers(&self.addresses).into_iter().map(Pin::SignalHandler));
        pins
    }

    fn run(&self, hook: Hook, call: impl FnOnce(&Sink) -> Status) -> Result<Answer, HookError> {
        self.run_within(hook, SELF_DESCRIPTION, call)
    }

    fn run_within(
        &self,
        hook: Hook,
        limits: AnswerLimits,
        call: impl FnOnce(&Sink) -> Status,
    ) -> Result<Answer, HookError> {
        let (status, answer) = Answer::collect(limits, call);
        match HookError::from_status(hook, limits, status, &answer) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }
}

/// SAFETY: `context` is the vector of [`Loaded::close`].
unsafe extern "C" fn visit(context: *mut c_void, block: *mut c_void) {
    // SAFETY: see above; the vector is untouched while its visitor is in use.
    unsafe { (*context.cast::<Vec<*mut c_void>>()).push(block) };
}

/// How an attempt to unmap a library ended.
pub enum Closed {
    /// It is gone, and that was proved.
    Unmapped(Residue),
    /// It was not tried: something of it still runs. To be tried again.
    Pinned {
        /// The library, as loaded as before.
        loaded: Box<Loaded>,
        /// What runs.
        pins: Vec<Pin>,
    },
    /// `dlclose` was called, and the library is still there. To be looked at
    /// again with [`Remains::recheck`].
    Lingering {
        /// What has to be freed once it is gone.
        remains: Box<Remains>,
        /// What keeps it, as far as can be found out.
        pins: Vec<Pin>,
    },
}

/// A library was not loaded, or is closed again.
#[derive(Debug)]
pub struct NotLoaded {
    /// Why.
    pub error: LoadError,
    /// What is left if closing it did not unmap it, and what keeps it.
    pub remains: Option<(Box<Remains>, Vec<Pin>)>,
}

impl NotLoaded {
    /// Closes a library of which nothing but its constructors ran.
    fn closing(error: LoadError, library: Library, copy: PrivateCopy) -> NotLoaded {
        // SAFETY: nothing of the library was kept.
        let closed = unsafe { library.close() };
        let remains = closed.err().map(|kept| (Box::new(Remains::of_copy(copy, kept.companions)), kept.pins));
        NotLoaded { error, remains }
    }
}

/// A library could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The loader refused it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel does not list it.
    #[error("no mapping of {} is listed in /proc/self/maps, so that unloading it could not be proved", path.display())]
    NotFound {
        /// The private copy.
        path: PathBuf,
    },
    /// It does not fit this host.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl Failure for LoadError {
    fn code(&self) -> Code {
        match self {
            LoadError::Open(error) => error.code(),
            LoadError::NotFound { .. } => Code::LoadOpen,
            LoadError::Handshake(error) => error.code(),
        }
    }
}
