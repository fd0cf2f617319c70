//! The host: options, the command loop that owns what is live, and the
//! embedder's handle to both.

mod options;
mod catalog;
mod status;
mod stuck;
mod control;
mod handle;

pub use handle::{Host, HostError, Outcome};
pub use options::{HostBuilder, RemovalPolicy};
pub use status::{HostStatus, LeaseStatus, PluginState, PluginStatus, UnloadingStatus, VersionStatus};
