//! The host: options, the command loop that owns what is live, and the
//! embedder's handle to both.

mod error;
mod lock;
mod options;
mod catalog;
mod status;
mod stuck;
mod control;
mod deploy;
mod save;
mod handle;

pub use error::HostError;
pub use handle::{Host, Outcome};
pub use options::{HostBuilder, RemovalPolicy};
pub use status::{HostStatus, LeaseStatus, PluginState, PluginStatus, UnloadingStatus, VersionStatus};
