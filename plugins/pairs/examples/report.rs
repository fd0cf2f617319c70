//! The plugin `report`, of which hosts with other ideas of its interface exist.

#![deny(unsafe_code)]

use pairs::report::{Report, Size, Volume};
use replug_plugin_api::prelude::*;

struct Teller;

impl Plugin for Teller {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Teller)
    }
}

impl Report for Teller {
    fn size(&self, line: &str) -> Size {
        Size { bytes: line.len() as u32 }
    }

    fn volume(&self, line: &str) -> Volume {
        if line.ends_with('!') { Volume::High } else { Volume::Low }
    }

    fn words(&self, line: &str) -> u64 {
        line.split_whitespace().count() as u64
    }

    fn letters(&self, line: &str) -> u64 {
        line.chars().count() as u64
    }
}

export!(Teller, name = "report", version = "1.0.0", interfaces = [dyn Report]);
