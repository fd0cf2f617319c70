//! Calling a plugin's service interface: by name and bytes, sync and async,
//! from outside and from other plugins.
//!
//! This stands on dispatch, which says which version a call enters, and on
//! load, which knows the functions behind it. It knows nothing of files,
//! deployments or state.

mod message;
mod error;
mod timer;
mod plugin_tables;
mod open_table;
mod open_tables;
mod serving;
mod kept;
mod directory;
mod waker;
mod future;
mod handle;
mod typed;
mod plugin_context;
mod tables;
mod bridge;

pub use error::CallError;
pub use future::CallFuture;
pub use handle::Plugin;
pub use message::{CallOptions, Reply};
pub use serving::Serving;
pub use typed::{NotRegistered, Typed};

pub(crate) use bridge::host_context;
pub(crate) use directory::{Change, Directory, Entry, ServiceLimits};
pub(crate) use handle::call_unpublished;
pub(crate) use kept::KeptCall;
pub(crate) use open_table::Fit;
pub(crate) use open_tables::OpenTables;
pub(crate) use plugin_context::PluginContext;
#[cfg(test)]
pub(crate) use plugin_tables::Spec;
pub(crate) use plugin_tables::{OpenError, TableOf, Tables};

#[cfg(test)]
mod open_tables_tests;
