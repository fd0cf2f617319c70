//! The root module: the one thing that a host looks up in a plugin.
//!
//! It is a table of interfaces. Each row's vtable is a prefix type of its own
//! and is checked by itself, because the direction of the layout check depends
//! on which side has more fields, and nested prefix types would be checked in
//! the wrong one.

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RSlice, RStr},
    type_layout::TypeLayout,
};
use std::ffi::c_void;

/// What a plugin exports: who it is, what it offers, what it needs.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RootRef, prefix_fields = RootPrefix)))]
pub struct Root {
    /// The plugin's name; equals the note's.
    pub name: RStr<'static>,
    /// The plugin's semver; equals the note's.
    pub version: RStr<'static>,
    /// The interfaces that the plugin offers; the service interface is first.
    pub provides: RSlice<'static, Interface>,
    /// The host interfaces that the plugin will use.
    #[sabi(last_prefix_field)]
    pub requires: RSlice<'static, Requirement>,
}

impl RootModule for RootRef {
    abi_stable::declare_root_module_statics! {RootRef}
    const BASE_NAME: &'static str = "replug";
    const NAME: &'static str = "replug";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Semver of an interface.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, StableAbi)]
pub struct InterfaceVersion {
    /// Another major is another interface.
    pub major: u32,
    /// A later minor appends functions.
    pub minor: u32,
    /// Says nothing about the layout.
    pub patch: u32,
}

impl InterfaceVersion {
    /// Shorthand for tables.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        InterfaceVersion { major, minor, patch }
    }
}

impl std::fmt::Display for InterfaceVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A row of what a plugin offers.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Interface {
    /// A dotted name, `replug.service`.
    pub id: RStr<'static>,
    /// The version that the plugin was built against.
    pub version: InterfaceVersion,
    /// Layout of the vtable's prefix reference, to be checked before use.
    pub layout: &'static TypeLayout,
    /// The vtable: a `PrefixRef` of the type that `id` names.
    #[sabi(unsafe_opaque_field)]
    pub vtable: *const c_void,
}

// SAFETY: a row points to statics of the plugin that are never written.
unsafe impl Send for Interface {}
// SAFETY: as above.
unsafe impl Sync for Interface {}

/// A row of what a plugin needs from its host.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Requirement {
    /// A dotted name, `replug.host`.
    pub id: RStr<'static>,
    /// The version that the plugin was built against.
    pub version: InterfaceVersion,
    /// Layout of the vtable's prefix reference as the plugin knows it.
    pub layout: &'static TypeLayout,
}
