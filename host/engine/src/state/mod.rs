//! State between versions: how it is kept, and how it gets from one schema
//! version to another.
//!
//! Four parts that know nothing of each other's callers: the [`envelope`] says
//! what a saved state is, the [`store`] keeps envelopes on disk, [`json`] shows
//! what is in one, and the [`chain`] plans a migration. None of them runs a
//! plugin's code, or decides when to save or migrate.

pub mod chain;
pub mod envelope;
pub mod json;
pub mod store;
