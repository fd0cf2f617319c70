//! All that the author of a replug plugin depends on.
//!
//! A plugin is a `cdylib` crate with a type that implements [`Plugin`] and one
//! line that exports it: no `unsafe`, no `extern`.
//!
//! ```
#![doc = include_str!("../examples/hello.rs")]
//! # fn main() {}
//! ```
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! replug-plugin-api = "0.1"
//! ```
//!
//! `cargo build --release` makes `lib….so`; copy it into the host's plugin
//! directory and it serves. A later version of the crate, dropped beside or
//! over it, takes over between two calls.
//!
//! # What stands where
//!
//! | for | see |
//! |---|---|
//! | the hooks, in the order of an instance's life | [`Plugin`] |
//! | methods, sync and async | [`Methods`], [`Call`], [`Reply`] |
//! | the host: identity, calls of other plugins, threads | [`Context`] |
//! | state that survives the next version, as a whole | [`Snapshot`], [`state`] |
//! | state in rows, that several versions can use at once | [`Context::table`], [`table`] |
//! | a plugin's own tests, and proof of an upgrade | `testing`, with the feature of that name |
//! | the export line and its options | [`export!`] |
//! | typed interfaces of one's own | [`interface`] |
//! | logging | the crate [`tracing`]: its events go to the host's log |
//!
//! # What the export line adds to the library
//!
//! A panic fence on every export, so that a panic is an error of the call and
//! not the end of the host; a note that says what the plugin is without running
//! it; books of thread-local destructors, pthread keys, threads and heap blocks,
//! so that the library can be unmapped completely while the process lives on.
//! All of it stands in the final cdylib only: a plugin's own tests run with the
//! libc of the machine.
//!
//! # Limits
//!
//! A thread-local destructor that panics aborts the process, as everywhere in
//! Rust. A library that the plugin links dynamically keeps its own books with
//! libc and can keep the plugin in memory; the host then says by name what did.
//! A backtrace taken by the host after a reload may show names of the old
//! version, when the new one was mapped at the same address.

pub use abi_stable;
/// Makes a type that implements [`Plugin`] the plugin of this cdylib.
///
/// One line at the end of the crate, `export!(Type);`, or with options:
///
/// | option | default | says |
/// |---|---|---|
/// | `name = "markdown"` | the package's name | name of the plugin |
/// | `version = "1.2.0"` | the package's version | version of the plugin |
/// | `state = snapshot` | `stateless` | the type implements [`Snapshot`] |
/// | `state = tables` | `stateless` | it keeps rows in [`table`]s of the host; also `snapshot + tables` |
/// | `allocator = system` | `ledger` | heap blocks are not counted, and not freed after unloading |
/// | `dependencies = ["templates ^2.1"]` | none | plugins that this one calls |
/// | `routes = ["/render"]` | none | routes that it asks to be served under |
/// | `capabilities = ["preview/1"]` | none | optional abilities |
/// | `interfaces = [dyn Filter]` | none | typed [`interface`]s that the type implements, or rows made by hand |
///
/// ```
/// use replug_plugin_api::prelude::*;
///
/// struct Markdown;
///
/// impl Plugin for Markdown {
///     type Config = ();
///     fn prepare((): (), _: &Context) -> Result<Self> {
///         Ok(Markdown)
///     }
/// }
///
/// export!(
///     Markdown,
///     name = "markdown",
///     version = "1.2.0",
///     dependencies = ["templates ^2.1"],
///     routes = ["/render"],
///     capabilities = ["preview/1"],
/// );
/// # fn main() {}
/// ```
///
/// What a host would refuse in them stops the build. The line adds nothing to
/// the crate's own tests (`cfg(test)`).
///
/// It writes `unsafe` code, so that the author need not: a crate that wants none
/// of its own says `#![deny(unsafe_code)]`. Under `#![forbid(unsafe_code)]` it
/// does not compile, because `forbid` lets no macro make an exception.
pub use replug_plugin_macros::export;
pub use serde;
pub use serde_json;
pub use tracing;

mod call;
mod context;
mod error;
#[doc(hidden)]
pub mod glue;
#[doc(hidden)]
pub mod heap;
pub mod interface;
mod methods;
mod plugin;
mod reply;
#[cfg(feature = "async")]
mod runtime;
pub mod state;
pub mod table;
mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(feature = "async")]
pub use tokio;

pub use call::{Call, OwnedCall};
pub use context::Context;
pub use error::{Error, Result};
pub use methods::Methods;
#[cfg(feature = "async")]
pub use methods::Shared;
pub use plugin::{Plugin, Snapshot};
pub use reply::Reply;
pub use table::Table;
pub use tasks::StopSignal;

/// The names that nearly every plugin uses.
pub mod prelude {
    pub use crate::{
        Call, Context, Error, Methods, OwnedCall, Plugin, Reply, Result, Snapshot, StopSignal, Table, export,
    };
}

/// Names for the output of [`export!`], and for nothing else: they are outside of
/// what versions promise, and what is `unsafe` about them is the macro's promise.
#[doc(hidden)]
pub mod __export {
    pub use crate::glue::{
        Exports, InstanceTable, LedgerTable, Model, RowsTable, ServiceTable, SnapshotModel, StatelessModel,
        check_root_symbol, header, instance_row, interface_records,
        ledger::{LedgerHeap, SystemHeap},
        ledger_row, requirement_records, requirements, rows_row, service_row,
        typed::Provides,
    };
    pub use crate::heap::LedgerAlloc;
    pub use abi_stable::library::LibHeader;
    pub use replug_abi::{Interface, Requirement, note};

    /// The version of this package.
    pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");
    /// What the compiler of this package calls itself.
    pub const RUSTC: &str = env!("REPLUG_RUSTC_VERSION");
    /// The target that this package is built for.
    pub const TARGET: &str = env!("REPLUG_TARGET");
}
