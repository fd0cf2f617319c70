//! The hostile plugin, version 1.0.0, with state of schema 1. What it can do is
//! told in `hostile-core`.

use hostile_core::{Hostile, V1};
use replug_plugin_api::export;

export!(Hostile<V1>, name = "hostile", version = "1.0.0", state = snapshot);
