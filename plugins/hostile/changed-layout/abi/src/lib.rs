//! The ABI as in `plugin-api/abi`, with one field changed by the build script.

include!(concat!(env!("OUT_DIR"), "/abi/lib.rs"));
