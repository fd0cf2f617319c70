//! The plugin `store` with version 1.2 of its interface, from which a method was
//! taken away.

#![deny(unsafe_code)]

use pairs::without_name::Store;
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
}

export!(Tens, name = "store", version = "1.2.1", interfaces = [dyn Store]);
