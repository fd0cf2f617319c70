//! Any bytes in place of a plugin file are answered; a patch that is offered
//! lies inside of the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use replug_host::artifact::inspect::inspect;

fuzz_target!(|bytes: &[u8]| {
    match inspect(bytes, Path::new("fuzzed.so")) {
        Ok(inspected) => {
            if let Some(patch) = inspected.clear_nodelete {
                assert!(patch.offset + 8 <= bytes.len() as u64);
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
