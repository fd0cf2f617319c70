//! The host: options, the command loop that owns what is live, and the
//! embedder's handle to both.

mod served;
mod choices;
mod error;
mod data_dir;
mod lock;
mod options;
mod outcome;
mod backoff;
mod spare;
mod turns;
mod untrusted;
mod first_files;
mod standing;
mod versions;
mod catalog;
mod status;
mod stored;
mod stuck;
mod sweeps;
mod job;
mod undoing;
mod waiting;
mod shared;
mod observe;
mod control;
mod save;
mod leaving;
mod rollback;
mod tables;
mod undo;
mod commits;
mod unloads;
mod deploy;
mod rehearsals;
mod loads;
mod descents;
mod choose;
mod trial;
mod intake;
mod trusting;
mod restore;
mod handle;
mod check;
mod snapshots;

pub use check::{CheckWith, Checked};
pub use error::HostError;
pub use handle::Host;
pub use options::{HostBuilder, RemovalPolicy, SameVersion};
pub use outcome::Outcome;
pub use rollback::RolledBack;
pub use snapshots::Snapshots;
pub use status::{
    DistrustedStatus, HostStatus, LeaseStatus, PinnedCaller, PinnedTo, PluginState, PluginStatus,
    SweepStatus, TableDurability, TableStatus, TrialStatus, UnloadingStatus, VersionStatus,
};
pub use stored::{Imported, Restored, ShownSnapshot, SnapshotContent, SnapshotStatus};
