//! A loaded library: how it is opened, and how it ends.
//!
//! It owns what the library points into and frees that after the library only.
//! It calls no hook and no method; `calls` does.

use super::{
    door::Door,
    handshake::{self, Handshake, HandshakeError, InterfaceRow},
    library::{Kept, Library, OpenError},
    proof::{self, Pin, Residue},
    remains::Remains,
    segments::Segments,
    threads::ThreadBooks,
};
use crate::{
    artifact::{inspect::Manifest, stage::PrivateCopy},
    failure::{Code, Failure},
};
use replug_abi::{BlockVisitor, HeapUse, InterfaceVersion, LedgerHost, interface};
use std::{
    any::Any,
    ffi::c_void,
    mem::ManuallyDrop,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A library that passed the handshake. It has no instance yet.
///
/// Dropping it leaves the library mapped; [`close`](Loaded::close) ends it.
pub struct Loaded {
    pub(super) handshake: Handshake,
    addresses: Range<usize>,
    door: Arc<Door>,
    // These two are pointed to by code that stays mapped when this value is
    // dropped without being closed; then they stay too.
    books: ManuallyDrop<Arc<ThreadBooks>>,
    pub(super) contexts: ManuallyDrop<Vec<Box<dyn Any + Send + Sync>>>,
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
        let mapped = |_: &Segments| proof::mapped_files().contains(copy.path());
        let Some(segments) = Segments::of(copy.path()).filter(mapped) else {
            let error = LoadError::NotFound { path: copy.path().to_owned() };
            return Err(NotLoaded::closing(error, library, copy));
        };
        segments.populate();
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
            addresses: segments.addresses(),
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

    /// The same, to keep it on disk.
    pub(crate) fn copy(&self) -> PrivateCopy {
        self.copy.clone()
    }

    /// The interfaces on offer.
    pub fn interfaces(&self) -> impl ExactSizeIterator<Item = InterfaceRow<'_>> {
        self.handshake.interfaces()
    }

    /// Whether its `restore` takes state of earlier schemas and makes the steps
    /// itself.
    pub(crate) fn restores_earlier_schemas(&self) -> bool {
        let since = InterfaceVersion::new(1, 1, 0);
        self.interfaces().any(|row| {
            let version = row.version();
            row.id() == interface::INSTANCE && version.major == since.major && version.minor >= since.minor
        })
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
