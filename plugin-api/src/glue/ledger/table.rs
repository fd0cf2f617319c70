//! `replug.ledger` over the books.

use super::{keys, resolve_all, threads};
use crate::{
    glue::{fence::fence_silent, forward},
    heap::LedgerAlloc,
};
use abi_stable::prefix_type::WithMetadata;
use replug_abi::{BlockVisitor, HeapUse, LedgerHost, LedgerVtable, LedgerVtableRef, Status};
use std::{ffi::c_void, marker::PhantomData};

/// The plugin's global allocator, as far as the ledger knows it.
pub trait HeapBooks {
    /// Live bytes and blocks; `None` without books.
    fn live() -> Option<HeapUse>;
    /// Visits the `malloc` pointer of every live block.
    fn leftovers(visit: &mut dyn FnMut(*mut c_void));
    /// This thread leaves the plugin.
    fn release_thread();
}

/// The author opted out of the allocation ledger.
pub struct SystemHeap;

impl HeapBooks for SystemHeap {
    fn live() -> Option<HeapUse> {
        None
    }

    fn leftovers(_: &mut dyn FnMut(*mut c_void)) {}

    fn release_thread() {}
}

/// The allocation ledger that the export macro made the global allocator.
pub trait LedgerHeap {
    /// The static behind `#[global_allocator]`.
    fn heap() -> &'static LedgerAlloc;
}

impl<T: LedgerHeap> HeapBooks for T {
    fn live() -> Option<HeapUse> {
        let live = T::heap().live();
        Some(HeapUse { bytes: live.bytes as u64, blocks: live.blocks as u64 })
    }

    fn leftovers(visit: &mut dyn FnMut(*mut c_void)) {
        T::heap().leftovers(visit);
    }

    fn release_thread() {
        T::heap().release_thread();
    }
}

/// The ledger vtable of a plugin with a given allocator.
pub struct LedgerTable<H>(PhantomData<H>);

impl<H: HeapBooks> LedgerTable<H> {
    const VALUE: WithMetadata<LedgerVtable> = WithMetadata::new(LedgerVtable {
        install: Self::install,
        detach: Self::detach,
        release: Self::release,
        unmanaged_threads: Self::unmanaged_threads,
        heap: Self::heap,
        leftovers: Self::leftovers,
    });
    const STATIC: &'static WithMetadata<LedgerVtable> = &Self::VALUE;

    /// The vtable, to be put into the root module.
    pub const VTABLE: LedgerVtableRef = LedgerVtableRef(Self::STATIC.static_as_prefix());

    unsafe extern "C" fn install(host: &LedgerHost) -> Status {
        fence_silent(|| {
            if !resolve_all() || !threads::install(host) {
                return Status::ERROR;
            }
            forward::quiet_panics();
            Status::OK
        })
    }

    unsafe extern "C" fn detach() -> u64 {
        let ran = threads::detach();
        H::release_thread();
        ran
    }

    unsafe extern "C" fn release() -> u64 {
        keys::release()
    }

    unsafe extern "C" fn unmanaged_threads() -> u64 {
        threads::unmanaged()
    }

    unsafe extern "C" fn heap(out: &mut HeapUse) -> Status {
        match H::live() {
            Some(live) => {
                *out = live;
                Status::OK
            }
            None => Status::UNSUPPORTED,
        }
    }

    unsafe extern "C" fn leftovers(visitor: &BlockVisitor) -> Status {
        fence_silent(|| {
            // SAFETY: the host's visitor is valid for the call.
            H::leftovers(&mut |block| unsafe { (visitor.visit)(visitor.context, block) });
            Status::OK
        })
    }
}
