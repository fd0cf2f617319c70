//! The sample plugin `enrich` 2.0.0: takes lines apart, and
//! leaves out what stands behind a password.

#![deny(unsafe_code)]

use logs_interface::{Enrich, Entry, parts};
use replug_plugin_api::prelude::*;

struct Parts;

impl Plugin for Parts {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Parts)
    }
}

impl Enrich for Parts {
    fn enrich<'a>(&'a self, line: &'a str) -> Result<Entry<'a>> {
        let (sequence, level, message) = parts(line).ok_or_else(|| Error::new("enrich.no_parts", line))?;
        let message = message.split(" password=").next().unwrap_or(message);
        Ok(Entry { sequence, level: level.into(), message: message.into(), by: 2 })
    }
}

export!(Parts, name = "enrich", version = "2.0.0", interfaces = [dyn Enrich]);
