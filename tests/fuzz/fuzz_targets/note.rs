//! Any bytes in place of a note's description are answered, and a note that is
//! accepted can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replug_abi::note::records;
use replug_host::artifact::inspect::Manifest;

fuzz_target!(|desc: &[u8]| {
    let split = records(desc).all(|record| record.is_ok());
    match Manifest::parse(desc) {
        Ok(manifest) => assert!(split, "accepted a damaged note: {manifest:?}"),
        Err(fault) => assert!(!fault.to_string().contains('\n')),
    }
});
