//! The typed interfaces that an embedder calls, and where a library has them.
//!
//! What is registered is looked for in every library, and its layout compared,
//! when the library is loaded: a call finds a pointer at a place that it knows.
//! Nothing here calls a plugin.

use super::{
    handshake::{HandshakeError, InterfaceRow},
    loaded::Loaded,
};
use abi_stable::{StableAbi, type_layout::TypeLayout};
use replug_abi::{InterfaceVersion, TypedInterface};
use std::{any::TypeId, ffi::c_void, mem};

/// The interfaces of a host, in the order in which they were registered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interfaces {
    wanted: Vec<Wanted>,
}

/// An interface as the host knows it.
#[derive(Debug, Clone)]
struct Wanted {
    interface: TypeId,
    id: &'static str,
    version: InterfaceVersion,
    layout: &'static TypeLayout,
}

/// Interfaces of one host.
pub(crate) const INTERFACES_MAX: usize = 32;

/// The place of an interface among those of its host, or [nowhere](Self::NOWHERE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceIndex(usize);

impl InterfaceIndex {
    /// Where no library has anything.
    pub(crate) const NOWHERE: InterfaceIndex = InterfaceIndex(INTERFACES_MAX);
}

/// The vtables of one library, each at its interface's place; null where the
/// library does not offer one.
#[derive(Debug)]
pub(crate) struct Vtables([*const c_void; INTERFACES_MAX + 1]);

// SAFETY: vtables of typed interfaces are `Send + Sync`; they are static data of
// their library, which whoever reads them through this keeps mapped.
unsafe impl Send for Vtables {}
// SAFETY: as above.
unsafe impl Sync for Vtables {}

impl Interfaces {
    /// Registers an interface. Once is enough. Whether there is room for it.
    pub(crate) fn add<I: TypedInterface + ?Sized>(&mut self) -> bool {
        if self.index::<I>().is_some() {
            return true;
        }
        if self.wanted.len() == INTERFACES_MAX {
            return false;
        }
        self.wanted.push(Wanted {
            interface: TypeId::of::<I>(),
            id: I::ID,
            version: I::VERSION,
            layout: <I::Vtable as StableAbi>::LAYOUT,
        });
        true
    }

    /// Id and version of each.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&'static str, InterfaceVersion)> {
        self.wanted.iter().map(|wanted| (wanted.id, wanted.version))
    }

    /// The place of an interface, if it was registered.
    pub(crate) fn index<I: TypedInterface + ?Sized>(&self) -> Option<InterfaceIndex> {
        let interface = TypeId::of::<I>();
        self.wanted.iter().position(|wanted| wanted.interface == interface).map(InterfaceIndex)
    }

    /// What `loaded` has of the interfaces that are registered.
    ///
    /// # Errors
    /// It has one with another layout, or only of another major version.
    pub(crate) fn find_in(&self, loaded: &Loaded) -> Result<Vtables, HandshakeError> {
        let rows: Vec<InterfaceRow<'_>> = loaded.interfaces().collect();
        let fits = |wanted: &Wanted, row: &InterfaceRow<'_>| {
            row.id() == wanted.id && row.version().major == wanted.version.major
        };
        for row in &rows {
            // One major that both sides know is enough.
            let of_id = || self.wanted.iter().filter(|wanted| wanted.id == row.id());
            let is_known = of_id().any(|wanted| rows.iter().any(|row| fits(wanted, row)));
            if let (Some(wanted), false) = (of_id().next(), is_known) {
                let (id, expected, found) = (wanted.id.to_owned(), wanted.version, row.version());
                return Err(HandshakeError::Major { id, expected, found });
            }
        }
        let mut vtables = [std::ptr::null(); INTERFACES_MAX + 1];
        for (place, wanted) in vtables.iter_mut().zip(&self.wanted) {
            if let Some(row) = rows.iter().find(|row| fits(wanted, row)) {
                *place = row.vtable_of(wanted.version, wanted.layout)?;
            }
        }
        Ok(Vtables(vtables))
    }
}

impl Vtables {
    /// The vtable of interface `I`, if the library offers it.
    ///
    /// # Safety
    /// `index` is nowhere, or that of `I` among the interfaces that this was
    /// [found](Interfaces::find_in) for; the library stays mapped while the vtable
    /// is in use.
    #[inline(always)]
    pub(crate) unsafe fn get<I: TypedInterface + ?Sized>(&self, index: InterfaceIndex) -> Option<I::Vtable> {
        const {
            assert!(size_of::<I::Vtable>() == size_of::<*const c_void>(), "a vtable reference is one pointer")
        };
        // SAFETY: there is a place for every index.
        let vtable = *unsafe { self.0.get_unchecked(index.0) };
        if vtable.is_null() {
            return None;
        }
        // SAFETY: its layout was compared with that of `I::Vtable` when it was
        // found, and that is a pointer, says the assertion.
        Some(unsafe { mem::transmute_copy::<*const c_void, I::Vtable>(&vtable) })
    }
}
