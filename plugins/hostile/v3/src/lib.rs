//! The hostile plugin, version 3.0.0, with state of schema 3, from which no step
//! leads back. What it can do is told in `hostile-core`.

use hostile_core::{Hostile, V3};
use replug_plugin_api::export;

export!(Hostile<V3>, name = "hostile", version = "3.0.0", state = snapshot);
