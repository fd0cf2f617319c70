//! The root module of a plugin, from constants.

use abi_stable::{
    StableAbi,
    library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};
use replug_abi::{
    HostVtableRef, InstanceVtableRef, Interface, LedgerVtableRef, Requirement, Root, RootRef,
    ServiceVtableRef, interface,
};
use std::marker::PhantomData;

/// What the export macro says about a plugin.
pub trait Exports: 'static {
    /// The plugin's name.
    const NAME: &'static str;
    /// The plugin's semver.
    const VERSION: &'static str;
    /// The rows of the root module, the service interface first.
    const PROVIDES: &'static [Interface];
}

/// The host interfaces that code of this SDK uses.
pub const REQUIRES: &[Requirement] = &[Requirement {
    id: RStr::from_str(interface::HOST),
    version: interface::HOST_VERSION,
    layout: <HostVtableRef as StableAbi>::LAYOUT,
}];

/// The row of the service interface.
pub const fn service_row(vtable: ServiceVtableRef) -> Interface {
    Interface {
        id: RStr::from_str(interface::SERVICE),
        version: interface::SERVICE_VERSION,
        layout: <ServiceVtableRef as StableAbi>::LAYOUT,
        vtable: vtable.0.to_raw_ptr().cast(),
    }
}

/// The row of the instance interface.
pub const fn instance_row(vtable: InstanceVtableRef) -> Interface {
    Interface {
        id: RStr::from_str(interface::INSTANCE),
        version: interface::INSTANCE_VERSION,
        layout: <InstanceVtableRef as StableAbi>::LAYOUT,
        vtable: vtable.0.to_raw_ptr().cast(),
    }
}

/// The row of the ledger interface.
pub const fn ledger_row(vtable: LedgerVtableRef) -> Interface {
    Interface {
        id: RStr::from_str(interface::LEDGER),
        version: interface::LEDGER_VERSION,
        layout: <LedgerVtableRef as StableAbi>::LAYOUT,
        vtable: vtable.0.to_raw_ptr().cast(),
    }
}

/// The header that a host looks up, behind the symbol of abi_stable's name.
pub const fn header<E: Exports>() -> LibHeader {
    // SAFETY: `load` returns a reference to the root module of type `RootRef`.
    unsafe { LibHeader::from_constructor::<RootRef>(load::<E>, CheckTypeLayout::Yes) }
}

extern "C" fn load<E: Exports>() -> RootModuleResult {
    __call_root_module_loader(|| RootTable::<E>::ROOT)
}

struct RootTable<E>(PhantomData<E>);

impl<E: Exports> RootTable<E> {
    const VALUE: WithMetadata<Root> = WithMetadata::new(Root {
        name: RStr::from_str(E::NAME),
        version: RStr::from_str(E::VERSION),
        provides: RSlice::from_slice(E::PROVIDES),
        requires: RSlice::from_slice(REQUIRES),
    });
    const STATIC: &'static WithMetadata<Root> = &Self::VALUE;
    const ROOT: RootRef = RootRef(Self::STATIC.static_as_prefix());
}
