//! The plugin `store` with a version of its interface whose layout was changed.

#![deny(unsafe_code)]

use pairs::changed::Store;
use replug_plugin_api::prelude::*;

struct Tens;

impl Plugin for Tens {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Tens)
    }
}

impl Store for Tens {
    fn get(&self, place: u64) -> u64 {
        place * 10
    }

    fn count(&self) -> u64 {
        7
    }
}

export!(Tens, name = "store", version = "1.1.1", interfaces = [dyn Store]);
