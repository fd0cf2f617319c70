//! The plugin `store` with version 1.1 of its interface.

#![deny(unsafe_code)]

use pairs::v1_1::Store;
use replug_plugin_api::prelude::*;

struct Tens;

impl Plugin for Tens {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Tens)
    }
}

impl Store for Tens {
    fn get(&self, place: u32) -> u64 {
        u64::from(place) * 10
    }

    fn count(&self) -> u64 {
        7
    }
}

export!(Tens, name = "store", version = "1.1.0", interfaces = [dyn Store]);
