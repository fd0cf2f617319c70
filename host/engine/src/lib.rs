//! The replug host as a library: load, swap and unload native plugins in a
//! running process.
//!
//! ```no_run
//! use replug_host::Host;
//!
//! let host = Host::builder("plugins").start()?;
//! let hello = host.plugin("hello")?;
//! let reply = hello.call("greet", b"world")?;
//! println!("{}", reply.text()?);
//! host.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Host`] watches a directory. Whatever plugin is copied, renamed or linked
//! into it goes through the stages below; the highest version of a name serves,
//! unless an operator chose another.
//!
//! ```text
//! file ─ watch ─ stage ─ inspect ─ load ─ prepare ─┬─ publish ─ serves
//!                        [gate freeze export migrate restore activate]
//! unloaded + proof ─ close ─ detach ─ stop ─ drain ─ the version before
//! ```
//!
//! A call that began on a version ends on it. While a stateless plugin is
//! replaced nobody waits; while state is handed over callers wait at the gate,
//! bounded. What goes wrong leaves the version before in service and says so in
//! an [event], with a stable [code](failure), who is to blame, and what to do.
//!
//! # The modules, bottom up
//!
//! Each imports only what stands above it in this list: [`id`], [`clock`],
//! [`failure`], [`event`], [`artifact`] (watch, stage, inspect, trust), [`load`]
//! (dlopen, layouts, unload with proof), [`state`], [`table`] (rows that outlive
//! versions), [`table_store`] (and the process), [`dispatch`] (who is in which
//! version), [`service`] (calls), [`rehearse`] (the upgrade in a child process), the
//! pipeline, the host.
//!
//! # Threads
//!
//! A host has a control thread, a watcher, a timer, a thread for hooks, and one
//! for each version that is being unloaded. Calls run on the threads of their
//! callers, which need no async runtime. Two hosts in one process do not know
//! of each other.

#![cfg_attr(loom, allow(unused_imports, reason = "the rest of the host uses them"))]

// Models are of the dispatch core alone, and so is what is built for them.
#[cfg(not(loom))]
pub mod id;
#[cfg(not(loom))]
pub mod clock;
pub mod failure;
#[cfg(not(loom))]
pub mod event;
#[cfg(not(loom))]
pub mod artifact;
#[cfg(not(loom))]
pub mod load;
#[cfg(not(loom))]
pub mod state;
#[cfg(not(loom))]
pub mod table;
#[cfg(not(loom))]
pub mod table_store;
pub mod dispatch;
#[cfg(not(loom))]
pub mod service;
#[cfg(not(loom))]
pub mod rehearse;
#[cfg(not(loom))]
mod pipeline;
#[cfg(not(loom))]
mod host;

#[cfg(not(loom))]
pub use host::{
    CheckWith, Checked, DistrustedStatus, Host, HostBuilder, HostError, HostStatus, Imported, LeaseStatus,
    Outcome, PinnedCaller, PinnedTo, PluginState, PluginStatus, RemovalPolicy, Restored, RolledBack,
    SameVersion, ShownSnapshot, SnapshotContent, SnapshotStatus, Snapshots, SweepStatus, TableDurability,
    TableStatus, TrialStatus, UnloadingStatus, VersionStatus,
};
#[cfg(not(loom))]
pub use pipeline::{ReadError, RehearsalHelper};
#[cfg(not(loom))]
pub use replug_abi::{Fault, FaultKind, TypedInterface};
#[cfg(not(loom))]
pub use service::{CallError, CallFuture, CallOptions, NotRegistered, Plugin, Reply, Typed};

/// Reads what a plugin file says about itself, without running any of it.
///
/// # Errors
/// [`ReadError`]: the file cannot be read, or is no plugin for this host.
#[cfg(not(loom))]
pub fn inspect(
    path: impl AsRef<std::path::Path>,
) -> Result<(artifact::inspect::Manifest, Vec<artifact::inspect::Hazard>), ReadError> {
    pipeline::read_manifest(path.as_ref())
}
