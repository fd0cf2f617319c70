//! The SDK as in `plugin-api`, but for what its build script changes.

// What is left of what has no use in it.
#![allow(dead_code, unused_imports)]

include!(concat!(env!("OUT_DIR"), "/sdk/lib.rs"));
