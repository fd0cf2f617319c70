//! Calling a plugin's service interface: by name and bytes, sync and async,
//! from outside and from other plugins.
//!
//! This stands on dispatch, which says which version a call enters, and on
//! load, which knows the functions behind it. It knows nothing of files,
//! deployments or state.

mod message;
mod error;
mod timer;
mod open_tables;
mod serving;
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
#[cfg(test)]
pub(crate) use open_tables::Spec;
pub(crate) use open_tables::{Fit, OpenError, OpenTables, TableOf, Tables};
pub(crate) use plugin_context::PluginContext;
