//! The sample plugin `filter` 2.0.0: drops what is said for debugging, and health checks.

#![deny(unsafe_code)]

use logs_interface::{Filter, Verdict};
use replug_plugin_api::prelude::*;

struct Levels;

impl Plugin for Levels {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Levels)
    }
}

impl Filter for Levels {
    fn judge(&self, line: &str) -> Verdict {
        let keep = !line.contains(" DEBUG ") && !line.contains("GET /health");
        Verdict { keep, by: 2 }
    }
}

export!(Levels, name = "filter", version = "2.0.0", interfaces = [dyn Filter]);
