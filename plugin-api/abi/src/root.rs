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
use std::{ffi::c_void, mem, slice, str};

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

/// A row of what a plugin offers: an id, and a vtable with the layout of its
/// own type.
///
/// ```
/// use abi_stable::{StableAbi, prefix_type::WithMetadata};
/// use replug_abi::{Interface, InterfaceVersion, Status};
///
/// #[repr(C)]
/// #[derive(StableAbi)]
/// #[sabi(kind(Prefix(prefix_ref = ClockVtableRef, prefix_fields = ClockVtablePrefix)))]
/// pub struct ClockVtable {
///     /// Writes the seconds since the epoch to `out`.
///     #[sabi(last_prefix_field)]
///     pub seconds: extern "C" fn(out: &mut u64) -> Status,
/// }
///
/// extern "C" fn seconds(out: &mut u64) -> Status {
///     *out = 7;
///     Status::OK
/// }
///
/// const TABLE: &WithMetadata<ClockVtable> = &WithMetadata::new(ClockVtable { seconds });
/// // SAFETY: `seconds` writes `out` before it answers with OK, keeps nothing of
/// // its argument, cannot panic, and asks for no instance.
/// const ROW: Interface = unsafe {
///     Interface::new(
///         "example.clock",
///         InterfaceVersion::new(1, 0, 0),
///         ClockVtableRef(TABLE.static_as_prefix()),
///     )
/// };
/// assert_eq!(ROW.id(), "example.clock");
/// ```
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Interface {
    // A dotted name, `replug.service`.
    id: RStr<'static>,
    // The version that the plugin was built against.
    version: InterfaceVersion,
    // Layout of the vtable's prefix reference, to be checked before use.
    layout: &'static TypeLayout,
    // The vtable: a `PrefixRef` of the type that `id` names.
    #[sabi(unsafe_opaque_field)]
    vtable: *const c_void,
}

impl Interface {
    /// The row that offers `vtable`, the `PrefixRef` of an interface's type.
    ///
    /// The row's layout is that of `R` itself, so that vtable and layout cannot
    /// differ. `R` must have the size of a pointer, or the build stops.
    ///
    /// ```compile_fail
    /// use replug_abi::{Interface, InterfaceVersion};
    ///
    /// // Sixteen bytes: no vtable reference.
    /// const ROW: Interface =
    ///     unsafe { Interface::new("example.clock", InterfaceVersion::new(1, 0, 0), [0_u64; 2]) };
    /// ```
    ///
    /// # Safety
    /// A host compares layouts; it cannot see what functions do. `vtable` is the
    /// prefix reference of a vtable of which every function
    /// - keeps what its type says: it takes every value of its arguments' types,
    ///   results live as long as their types say, and nothing that is lent for the
    ///   call is kept;
    /// - treats its first argument, if that is an [`Instance`](crate::Instance), as
    ///   an instance of the plugin type of the export line that lists the row; the
    ///   row is listed in no other;
    /// - has written its out argument when it returns
    ///   [`Status::OK`](crate::Status::OK);
    /// - never unwinds.
    pub const unsafe fn new<R>(id: &'static str, version: InterfaceVersion, vtable: R) -> Self
    where
        R: StableAbi + Copy + Send + Sync + 'static,
    {
        const { assert!(size_of::<R>() == size_of::<*const c_void>(), "a vtable reference is one pointer") };
        // SAFETY: `R` has the size of a pointer. It is turned back into an `R`
        // only, by a host that compared `R`'s layout with the one beside it.
        let vtable = unsafe { mem::transmute_copy::<R, *const c_void>(&vtable) };
        Interface { id: RStr::from_str(id), version, layout: R::LAYOUT, vtable }
    }

    /// The interface's id, a dotted name.
    pub const fn id(&self) -> &'static str {
        text(&self.id)
    }

    /// The version that the plugin was built against.
    pub const fn version(&self) -> InterfaceVersion {
        self.version
    }

    /// Layout of the vtable's prefix reference.
    pub const fn layout(&self) -> &'static TypeLayout {
        self.layout
    }

    /// The prefix reference, as a pointer. It is to be turned back into one
    /// only after [`layout`](Interface::layout) was compared with its type's.
    pub const fn vtable(&self) -> *const c_void {
        self.vtable
    }
}

// SAFETY: `new` takes vtables that are `Send + Sync`; the rest is plain data.
unsafe impl Send for Interface {}
// SAFETY: as above.
unsafe impl Sync for Interface {}

/// A row of what a plugin needs from its host.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Requirement {
    // A dotted name, `replug.host`.
    id: RStr<'static>,
    // The version that the plugin was built against.
    version: InterfaceVersion,
    // Layout of the vtable's prefix reference as the plugin knows it.
    layout: &'static TypeLayout,
}

impl Requirement {
    /// The row that asks for an interface whose vtable is an `R`.
    pub const fn new<R: StableAbi>(id: &'static str, version: InterfaceVersion) -> Self {
        Requirement { id: RStr::from_str(id), version, layout: R::LAYOUT }
    }

    /// The interface's id, a dotted name.
    pub const fn id(&self) -> &'static str {
        text(&self.id)
    }

    /// The version that the plugin was built against, the lowest that will do.
    pub const fn version(&self) -> InterfaceVersion {
        self.version
    }

    /// Layout of the vtable's prefix reference as the plugin knows it.
    pub const fn layout(&self) -> &'static TypeLayout {
        self.layout
    }
}

/// `RStr::as_str`, which is not `const`.
const fn text(text: &RStr<'static>) -> &'static str {
    // SAFETY: the parts of a `str`, which lives as long as the library.
    unsafe { str::from_utf8_unchecked(slice::from_raw_parts(text.as_ptr(), text.len())) }
}
