//! The plugin `store` with two majors of one interface, and a method of the
//! built-in service.

#![deny(unsafe_code)]

use pairs::{v1_2, v2_0};
use replug_plugin_api::prelude::*;

struct Both;

impl Plugin for Both {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Both)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods.method("ping", "Answers", |_, _| Ok("pong"));
    }
}

impl v1_2::Store for Both {
    fn get(&self, index: u32) -> u64 {
        u64::from(index) * 10
    }

    fn count(&self) -> u64 {
        7
    }

    fn name(&self) -> &str {
        "both"
    }
}

impl v2_0::Store for Both {
    fn get(&self, name: &str) -> u64 {
        name.len() as u64
    }
}

export!(Both, name = "store", version = "3.0.0", interfaces = [dyn v1_2::Store, dyn v2_0::Store]);
