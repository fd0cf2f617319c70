//! A plugin built against a changed ABI: in its `Request`, `flags` is a `u32`.
//! Sizes and offsets are as before, so only a check of the layout can tell. How
//! the change is made stands in `abi/build.rs`.

use replug_plugin_api::prelude::*;

struct ChangedLayout;

impl Plugin for ChangedLayout {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(ChangedLayout)
    }
}

export!(ChangedLayout, name = "changed-layout", version = "1.0.0");
