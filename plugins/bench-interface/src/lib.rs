//! The typed interfaces of the benchmarks: `bench.adder`, declared as a trait,
//! and `bench.add`, the same made by hand, as what it is compared with.
//!
//! Shared by the target plugins and the benchmark that calls them, as the
//! author of a host shares an interface of his own with its plugins. The types
//! made by hand follow the rules of `replug-abi`: `repr(C)`, functions that return a status,
//! never unwind, and write to an out pointer.

use abi_stable::StableAbi;
use replug_abi::{Interface, InterfaceVersion, Status};
use replug_plugin_api::interface::interface;

/// Adds to a number of the plugin's.
#[interface(id = "bench.adder", version = "1.0.0")]
pub trait Adder {
    /// The plugin's number plus `x`; panics if that overflows.
    fn add(&self, x: u64) -> u64;
}

/// The interface's id.
pub const ID: &str = "bench.add";
/// The interface's version.
pub const VERSION: InterfaceVersion = InterfaceVersion::new(1, 0, 0);

/// The vtable of the interface.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = AddVtableRef, prefix_fields = AddVtablePrefix)))]
pub struct AddVtable {
    /// Writes `*state + x` to `out`; [`Status::PANIC`] if that overflows.
    ///
    /// `state` and `out` point to numbers of the caller, valid for the call.
    /// Thread: any, concurrently.
    #[sabi(last_prefix_field)]
    // Written out: the derive sees functions only where they are spelled.
    pub add: unsafe extern "C" fn(state: *const u64, x: u64, out: *mut u64) -> Status,
}

/// The type of the vtable's function and of the symbol `bench_add`, which are
/// the very same function in the target plugins.
pub type Add = unsafe extern "C" fn(state: *const u64, x: u64, out: *mut u64) -> Status;

/// The row of the root module that offers `vtable`.
///
/// # Safety
/// The function of `vtable` does what [`AddVtable::add`] says, and never unwinds.
pub const unsafe fn row(vtable: AddVtableRef) -> Interface {
    // SAFETY: the caller's promise; the function asks for no instance.
    unsafe { Interface::new(ID, VERSION, vtable) }
}
