//! State between versions: how it is kept, and how it gets from one schema
//! version to another.
//!
//! Three parts that know nothing of each other's callers: the [`envelope`] says
//! what a saved state is, the [`store`] keeps envelopes on disk, and the
//! [`chain`] plans a migration. None of them runs a plugin's code, decides when
//! to save or migrate, or looks inside a payload.

pub mod chain;
pub mod envelope;
pub mod store;
