//! The harness, scenario tests and benches of replug.

pub mod report;
pub mod vitals;
pub mod symbol;
pub mod artifacts;
pub mod disk;
pub mod harness;
pub mod sessions;
pub mod kit;
pub mod hostile;
pub mod load;
pub mod dice;
