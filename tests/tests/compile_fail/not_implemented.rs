//! A plugin offers what it implements, and only interfaces.

use pairs::every::Every;
use replug_plugin_api::prelude::*;

struct Empty;

impl Plugin for Empty {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Empty)
    }
}

trait Ordinary {}

export!(Empty, name = "empty", interfaces = [dyn Every, dyn Ordinary]);

fn main() {}
