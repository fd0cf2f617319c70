//! The way of a version into service and out of it.
//!
//! ```text
//! Staged ─ inspect ► Candidate ─ load ► prepare ► Version ─ take over ► serving
//!                                                            │
//!            unloaded + proof ◄ close ◄ detach ◄ stop ◄ drain ┘ (the version before)
//! ```
//!
//! Each step takes what the one before gives. This module runs the steps and
//! times them; which version is wanted, and when, is the host's business.

mod error;
mod candidate;
mod poll;
mod progress;
mod worker;
mod state;
mod start;
mod taken;
mod tables;
mod gate_commit;
mod saved;
mod transfer;
mod hand_over;
mod take_over;
mod unload;
mod rehearsal;

pub use candidate::ReadError;
pub(crate) use candidate::{Candidate, copy_of, inspect, judge, read_manifest};
pub(crate) use error::DeployError;
pub(crate) use progress::{Party, Progress};
pub use rehearsal::RehearsalHelper;
pub(crate) use start::{Left, start};
pub(crate) use state::{StatePolicy, save, save_changed, snapshot_of};
pub(crate) use tables::{
    BATCH_ROWS, Converting, Descent, Reach, can_share, convert, is_one_way, reads_all_rows,
};
pub(crate) use take_over::{activate_beside, take_over};
pub(crate) use taken::{DEPLOYMENT, HAND_OVER, Loss, Means, Refused, TakenState};
pub(crate) use unload::{UnloadOptions, UnloadStage, Unloading};
pub(crate) use worker::Worker;
