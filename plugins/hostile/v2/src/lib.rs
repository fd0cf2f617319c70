//! The hostile plugin, version 2.0.0, with state of schema 2. What it can do is
//! told in `hostile-core`.

use hostile_core::{Hostile, V2};
use replug_plugin_api::export;

export!(Hostile<V2>, name = "hostile", version = "2.0.0", state = snapshot);
