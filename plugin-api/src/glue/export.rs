//! The root module of a plugin, from constants.

use abi_stable::{
    library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};
use replug_abi::{
    HostVtableRef, InstanceVtableRef, Interface, InterfaceVersion, LedgerVtableRef, ROOT_SYMBOL, Requirement,
    Root, RootRef, RowsVtableRef, ServiceVtableRef, TablesVtableRef, interface, note::Record,
};
use std::marker::PhantomData;

/// What the export macro says about a plugin.
pub trait Exports: 'static {
    /// The plugin's name.
    const NAME: &'static str;
    /// The plugin's semver.
    const VERSION: &'static str;
    /// Whether it keeps state in tables of the host.
    const TABLES: bool;
    /// The rows of the root module, the service interface first.
    const PROVIDES: &'static [Interface];
}

/// The host interfaces that the plugin needs.
pub const fn requirements(tables: bool) -> &'static [Requirement] {
    const HOST: Requirement = Requirement::new::<HostVtableRef>(interface::HOST, interface::HOST_VERSION);
    const TABLES: Requirement =
        Requirement::new::<TablesVtableRef>(interface::TABLES, interface::TABLES_VERSION);
    if tables { &[HOST, TABLES] } else { &[HOST] }
}

/// The row of the service interface.
///
/// # Safety
/// `vtable` is the table of this SDK for the plugin type of the export line.
pub const unsafe fn service_row(vtable: ServiceVtableRef) -> Interface {
    // SAFETY: the caller's promise, and the tables of this SDK keep the rules.
    unsafe { Interface::new(interface::SERVICE, interface::SERVICE_VERSION, vtable) }
}

/// The row of the instance interface.
///
/// # Safety
/// As for [`service_row`].
pub const unsafe fn instance_row(vtable: InstanceVtableRef) -> Interface {
    // SAFETY: as in `service_row`.
    unsafe { Interface::new(interface::INSTANCE, interface::INSTANCE_VERSION, vtable) }
}

/// The row of the ledger interface.
///
/// # Safety
/// As for [`service_row`].
pub const unsafe fn ledger_row(vtable: LedgerVtableRef) -> Interface {
    // SAFETY: as in `service_row`.
    unsafe { Interface::new(interface::LEDGER, interface::LEDGER_VERSION, vtable) }
}

/// The row of the interface that converts rows of tables.
///
/// # Safety
/// As for [`service_row`].
pub const unsafe fn rows_row(vtable: RowsVtableRef) -> Interface {
    // SAFETY: as in `service_row`.
    unsafe { Interface::new(interface::ROWS, interface::ROWS_VERSION, vtable) }
}

/// What the note says about `rows`, all of them.
pub const fn interface_records<const N: usize>(rows: &[Interface]) -> [Record<'static>; N] {
    assert!(N == rows.len(), "a record for each row");
    let mut records = [Record::Ledger(true); N];
    let mut at = 0;
    while at < N {
        records[at] = Record::Interface { id: rows[at].id(), version: numbers(rows[at].version()) };
        at += 1;
    }
    records
}

/// What the note says about the host interfaces that are needed, all of them.
pub const fn requirement_records<const N: usize>(needed: &[Requirement]) -> [Record<'static>; N] {
    assert!(N == needed.len(), "a record for each requirement");
    let mut records = [Record::Ledger(true); N];
    let mut at = 0;
    while at < N {
        records[at] = Record::Requires { id: needed[at].id(), version: numbers(needed[at].version()) };
        at += 1;
    }
    records
}

/// Stops the build when the macro exports another symbol than hosts look up.
pub const fn check_root_symbol(symbol: &str) {
    let (ours, theirs) = (symbol.as_bytes(), ROOT_SYMBOL.as_bytes());
    assert!(ours.len() == theirs.len(), "the export macro is of another SDK");
    let mut at = 0;
    while at < ours.len() {
        assert!(ours[at] == theirs[at], "the export macro is of another SDK");
        at += 1;
    }
}

const fn numbers(version: InterfaceVersion) -> [u32; 3] {
    [version.major, version.minor, version.patch]
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
        requires: RSlice::from_slice(requirements(E::TABLES)),
    });
    const STATIC: &'static WithMetadata<Root> = &Self::VALUE;
    const ROOT: RootRef = RootRef(Self::STATIC.static_as_prefix());
}
