//! The plugin `words`, whose results borrow from what it is given.

#![deny(unsafe_code)]

use pairs::words_lent::Words;
use replug_plugin_api::prelude::*;

struct Splitter;

impl Plugin for Splitter {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Splitter)
    }
}

impl Words for Splitter {
    fn first<'a>(&'a self, line: &'a str) -> &'a str {
        line.split(' ').next().unwrap_or_default()
    }
}

export!(Splitter, name = "words", version = "1.0.0", interfaces = [dyn Words]);
