//! The ABI as in `plugin-api/abi`, but for what its build script takes away.

include!(concat!(env!("OUT_DIR"), "/abi/lib.rs"));
