//! The harness, scenario tests and benches of replug.

pub mod report;
