//! Everything that keeps a carelessly unloaded library in memory, done by
//! ordinary safe code of ordinary crates.
//!
//! The machinery of the sample plugin `threads`: thread-locals with
//! destructors, threads in calls and beside them, an async runtime with timers
//! and sockets, a thread pool, statics that own heap and are never dropped. The
//! versions of the plugin differ in what they answer. It is what the unload
//! ledger has to cope with; nothing here helps it.

#![deny(unsafe_code)]

mod churn;
mod pool;
mod request;
mod wait;
mod wire;

pub use churn::{Churn, Churned};
pub use pool::Pool;
pub use request::{Nested, Sleep};
pub use wait::{heartbeat, sleep_blocking};
pub use wire::echo;

use replug_plugin_api::serde::Deserialize;

/// The configuration of every version.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "replug_plugin_api::serde", default, deny_unknown_fields)]
pub struct Config {
    /// Every how many calls `churn` runs a thread of its own; 0 for never.
    /// Default: 16.
    pub spawn_every: u64,
    /// Threads of the pool behind `parallel`. Default: 2.
    pub pool_threads: usize,
    /// Milliseconds between two beats of the background thread. Default: 50.
    pub heartbeat_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { spawn_every: 16, pool_threads: 2, heartbeat_ms: 50 }
    }
}
