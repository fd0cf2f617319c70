//! The replug host as a library: load, swap and unload native plugins in a
//! running process.

pub mod failure;
pub mod state;
