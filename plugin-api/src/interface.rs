//! Typed interfaces beside the built-in service of method names and bytes.
//!
//! The author of a host declares an interface once, in a crate that host and
//! plugins share: a vtable of functions, an id, a version. A plugin offers it as
//! a row of its export line; the host looks it up by its type, and the layouts
//! of both sides are compared before the first call.
//!
//! A vtable's rules are those of the ABI: `extern "C"` functions that return a
//! [`Status`] and never unwind, whose arguments are borrowed for the call and
//! whose results go to an out argument. Later minors append functions behind
//! the one that is marked as the last of the prefix. The crate depends on
//! `abi_stable` directly, in the version of [`crate::abi_stable`], because its
//! derive names it.
//!
//! ```
//! // The shared crate.
//! use abi_stable::{StableAbi, prefix_type::WithMetadata};
//! use replug_plugin_api::interface::{Interface, InterfaceVersion, Status};
//! use replug_plugin_api::prelude::*;
//!
//! #[repr(C)]
//! #[derive(StableAbi)]
//! #[sabi(kind(Prefix(prefix_ref = ScaleVtableRef, prefix_fields = ScaleVtablePrefix)))]
//! pub struct ScaleVtable {
//!     /// Writes `factor` times `x` to `out`. Thread: any, concurrently.
//!     #[sabi(last_prefix_field)]
//!     pub scale: extern "C" fn(factor: f64, x: f64, out: &mut f64) -> Status,
//! }
//!
//! pub const fn row(vtable: ScaleVtableRef) -> Interface {
//!     Interface::new("example.scale", InterfaceVersion::new(1, 0, 0), vtable)
//! }
//!
//! // The plugin.
//! struct Scale;
//!
//! impl Plugin for Scale {
//!     type Config = ();
//!     fn prepare((): (), _: &Context) -> Result<Self> {
//!         Ok(Scale)
//!     }
//! }
//!
//! extern "C" fn scale(factor: f64, x: f64, out: &mut f64) -> Status {
//!     *out = factor * x;
//!     Status::OK
//! }
//!
//! const TABLE: &WithMetadata<ScaleVtable> = &WithMetadata::new(ScaleVtable { scale });
//! const ROW: Interface = row(ScaleVtableRef(TABLE.static_as_prefix()));
//!
//! export!(Scale, name = "scale", interfaces = [ROW]);
//! # fn main() {}
//! ```
//!
//! A function that can panic catches it with [`std::panic::catch_unwind`] and
//! answers [`Status::PANIC`].

pub use replug_abi::{Interface, InterfaceVersion, Status};
