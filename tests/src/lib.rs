//! The harness, scenario tests and benches of replug.
