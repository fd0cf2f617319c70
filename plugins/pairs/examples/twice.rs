//! The plugin `store` with two minors of one interface, of which one would do.

#![deny(unsafe_code)]

use pairs::{v1_0, v1_1};
use replug_plugin_api::prelude::*;

struct Tens;

impl Plugin for Tens {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Tens)
    }
}

impl v1_0::Store for Tens {
    fn get(&self, place: u32) -> u64 {
        u64::from(place) * 10
    }
}

impl v1_1::Store for Tens {
    fn get(&self, place: u32) -> u64 {
        u64::from(place) * 10
    }

    fn count(&self) -> u64 {
        7
    }
}

export!(Tens, name = "store", version = "1.1.2", interfaces = [dyn v1_0::Store, dyn v1_1::Store]);
