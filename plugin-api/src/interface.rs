//! Typed interfaces beside the built-in service of method names and bytes.
//!
//! The author of a host declares an interface once, as a trait in a crate that
//! host and plugins share. A plugin implements it and names it in its export
//! line; the host calls the trait's methods, each at the cost of a function
//! pointer. The layouts of both sides are compared before a version serves.
//!
//! ```
//! // The shared crate: it depends on `replug-plugin-api` and on `abi_stable`.
//! use abi_stable::{StableAbi, std_types::RStr};
//! use replug_plugin_api::{Result, interface::{Portable, interface}};
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, StableAbi, Portable)]
//! pub struct Field<'a> {
//!     pub key: RStr<'a>,
//!     pub value: RStr<'a>,
//! }
//!
//! /// What becomes of a line.
//! #[interface(id = "logs.filter", version = "1.1.0")]
//! pub trait Filter {
//!     /// Whether the line is kept.
//!     fn keep(&self, line: &str) -> bool;
//!     /// Its first field, which borrows from the line.
//!     fn parse<'a>(&'a self, line: &'a str) -> Result<Field<'a>>;
//!     /// The line with its secrets struck out.
//!     fn redact(&self, line: &str) -> String;
//!     /// How many lines were kept.
//!     #[since = "1.1"]
//!     fn kept(&self) -> u64;
//! }
//!
//! // The plugin.
//! use replug_plugin_api::prelude::*;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! struct Errors {
//!     kept: AtomicU64,
//! }
//!
//! impl Plugin for Errors {
//!     type Config = ();
//!     fn prepare((): (), _: &Context) -> Result<Self> {
//!         Ok(Errors { kept: AtomicU64::new(0) })
//!     }
//! }
//!
//! impl Filter for Errors {
//!     fn keep(&self, line: &str) -> bool {
//!         let keep = line.contains("ERROR");
//!         self.kept.fetch_add(u64::from(keep), Ordering::Relaxed);
//!         keep
//!     }
//!     fn parse<'a>(&'a self, line: &'a str) -> Result<Field<'a>> {
//!         let (key, value) =
//!             line.split_once('=').ok_or_else(|| Error::new("filter.no_field", line))?;
//!         Ok(Field { key: key.into(), value: value.into() })
//!     }
//!     fn redact(&self, line: &str) -> String {
//!         line.replace("secret", "***")
//!     }
//!     fn kept(&self) -> u64 {
//!         self.kept.load(Ordering::Relaxed)
//!     }
//! }
//!
//! export!(Errors, name = "errors", interfaces = [dyn Filter]);
//! # fn main() {}
//! ```
//!
//! The host registers `dyn Filter` when it is built and calls it through
//! `replug_host::Typed`: in a closure, whose argument is a `FilterProxy` with the
//! trait's methods, each of which answers with a `Result`. A panic in the plugin
//! is an error there, a [`Fault`].
//!
//! # What crosses
//!
//! | in the trait | crosses as | copies |
//! |---|---|---|
//! | numbers, `bool`, [`Portable`] structs and enums | themselves | the value |
//! | `&T`, `&mut T` | themselves | none |
//! | `&str`, `&[T]`, `&mut [T]` | `RStr`, `RSlice`, `RSliceMut` | none |
//! | results `T`, `&T`, `&str`, `&[T]` | an out argument | none of what is behind them |
//! | results `String`, `Vec<T>` | a sink of the caller's | one, into memory of the caller |
//! | `Result<…>` around any result | a status; the [`Error`](crate::Error) by way of the host | its texts |
//!
//! A borrowed result lives as long as the call of the host, whose closure it
//! cannot leave. It borrows from `&self`; where it may borrow from an argument
//! too, the method names one lifetime, as `parse` does. What owns memory, can be
//! changed while it is shared, or claims to live for ever does not compile; see
//! [`Portable`]. Text that comes out owned is checked to be UTF-8; text that is
//! lent is what its type says, as between any two crates.
//!
//! # Growing
//!
//! A later minor appends methods with `#[since = "1.1"]` and raises the version.
//! A plugin of 1.0 goes on: such a method is then [`FaultKind::Missing`], and
//! `has_kept()` of the proxy says beforehand whether it is there. A plugin of
//! 1.3 runs in a host of 1.2. What else is changed (an argument, a field, the
//! order of methods) is another major version and is best declared as another
//! trait: a host refuses the plugin, with the place of the change on one line.
//! Names of types, fields and methods are compared, and so is the name of the
//! package; names of arguments are not.
//!
//! # Making a row by hand
//!
//! A vtable can be written out where a trait does not fit. Its rules are those
//! of the ABI: `extern "C"` functions that return a [`Status`] and never unwind,
//! whose arguments are borrowed for the call and whose results go to an out
//! argument. Later minors append functions behind the one that is marked as the
//! last of the prefix. A function that can panic catches it with
//! [`std::panic::catch_unwind`] and answers [`Status::PANIC`]. A status has no
//! words: what a caller is to know of an error goes to an out argument.
//!
//! A host that calls the row through [`TypedInterface`], which it then implements
//! itself, hands the plugin's [`Instance`] over as the first argument;
//! [`plugin_of`] makes the plugin of it. That all of this is so, the one who makes
//! the row promises to [`Interface::new`].
//!
//! ```
//! // The shared crate.
//! use abi_stable::{StableAbi, prefix_type::WithMetadata};
//! use replug_plugin_api::interface::{Instance, Interface, InterfaceVersion, Status, plugin_of};
//! use replug_plugin_api::prelude::*;
//!
//! #[repr(C)]
//! #[derive(StableAbi)]
//! #[sabi(kind(Prefix(prefix_ref = ScaleVtableRef, prefix_fields = ScaleVtablePrefix)))]
//! pub struct ScaleVtable {
//!     /// Writes the plugin's factor times `x` to `out`. Thread: any, concurrently.
//!     #[sabi(last_prefix_field)]
//!     pub scale: unsafe extern "C" fn(instance: Instance, x: f64, out: &mut f64) -> Status,
//! }
//!
//! /// # Safety
//! /// As for [`Interface::new`].
//! pub const unsafe fn row(vtable: ScaleVtableRef) -> Interface {
//!     // SAFETY: the caller's promise.
//!     unsafe { Interface::new("example.scale", InterfaceVersion::new(1, 0, 0), vtable) }
//! }
//!
//! // The plugin.
//! struct Scale {
//!     factor: f64,
//! }
//!
//! impl Plugin for Scale {
//!     type Config = ();
//!     fn prepare((): (), _: &Context) -> Result<Self> {
//!         Ok(Scale { factor: 2.5 })
//!     }
//! }
//!
//! /// SAFETY: `instance` is a live instance of `Scale`.
//! unsafe extern "C" fn scale(instance: Instance, x: f64, out: &mut f64) -> Status {
//!     // SAFETY: see above; only the export line of `Scale` lists the row.
//!     let plugin = unsafe { plugin_of::<Scale>(&instance) };
//!     *out = plugin.factor * x;
//!     Status::OK
//! }
//!
//! const TABLE: &WithMetadata<ScaleVtable> = &WithMetadata::new(ScaleVtable { scale });
//! // SAFETY: `scale` takes an instance of `Scale`, which lists the row below; it
//! // writes `out` before it answers, keeps nothing, and cannot panic.
//! const ROW: Interface = unsafe { row(ScaleVtableRef(TABLE.static_as_prefix())) };
//!
//! export!(Scale, name = "scale", interfaces = [ROW]);
//! # fn main() {}
//! ```

#[doc(hidden)]
pub mod calls;
mod portable;

pub use crate::glue::typed::plugin_of;
pub use portable::Portable;
pub use replug_abi::{Fault, FaultKind, Instance, Interface, InterfaceVersion, Status, TypedInterface};
/// Derives [`trait@Portable`].
pub use replug_plugin_macros::Portable;
/// Makes a trait an interface between hosts and plugins; the
/// [module](crate::interface) has an example, and says what crosses how.
///
/// `#[interface(id = "logs.filter", version = "1.1.0")]`: the id, a dotted name,
/// is what a host finds the interface by; the version is semver.
///
/// The trait stays what it is, so that plugins implement it as any other. Beside
/// it stands `FilterProxy`, what a host calls it through, and `dyn Filter` names
/// the interface in `export!` and in the host. The trait's methods take `&self`,
/// have no type parameters and are not async; the first is there from the first
/// version on, later ones say since when, with `#[since = "1.1"]`.
///
/// ```compile_fail
/// use replug_plugin_api::interface::interface;
///
/// #[interface(id = "example.counter", version = "1.0.0")]
/// pub trait Counter {
///     fn count(&mut self) -> u64; // does not compile: write `&self`
/// }
/// ```
///
/// The crate depends on `abi_stable` directly, in the version of
/// [`crate::abi_stable`], because derives name it. It is written `unsafe` code
/// for: it can `deny(unsafe_code)`, but not `forbid` it.
pub use replug_plugin_macros::interface;

/// Names for the output of [`macro@interface`], and for nothing else: they are
/// outside of what versions promise, and what is `unsafe` about them is the
/// macro's promise.
#[doc(hidden)]
pub mod __support {
    pub use super::{
        calls,
        portable::{is, portable, writable},
    };
    pub use crate::{
        Plugin, Result,
        glue::typed::{self as adapter, Provides},
    };
    pub use abi_stable::{
        prefix_type::WithMetadata,
        std_types::{RSlice, RSliceMut, RStr},
    };
    pub use replug_abi::{
        Fault, Instance, Interface, InterfaceVersion, SliceSink, Status, TextSink, TypedInterface,
    };
}
