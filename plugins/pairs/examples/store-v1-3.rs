//! The plugin `store` with version 1.3 of its interface.

#![deny(unsafe_code)]

use pairs::v1_3::Store;
use replug_plugin_api::prelude::*;

struct Tens;

impl Plugin for Tens {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Tens)
    }
}

impl Store for Tens {
    fn get(&self, index: u32) -> u64 {
        u64::from(index) * 10
    }

    fn count(&self) -> u64 {
        7
    }

    fn name(&self) -> &str {
        "tens"
    }

    fn sum(&self) -> u64 {
        210
    }
}

export!(Tens, name = "store", version = "1.3.0", interfaces = [dyn Store]);
