//! The plugin `store` with version 2.0 of its interface.

#![deny(unsafe_code)]

use pairs::v2_0::Store;
use replug_plugin_api::prelude::*;

struct Lengths;

impl Plugin for Lengths {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Lengths)
    }
}

impl Store for Lengths {
    fn get(&self, name: &str) -> u64 {
        name.len() as u64
    }
}

export!(Lengths, name = "store", version = "2.0.0", interfaces = [dyn Store]);
