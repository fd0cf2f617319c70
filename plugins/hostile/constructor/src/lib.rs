//! A plugin whose constructor ends the process: whoever loads it dies before
//! anything of it was called, and whoever only reads it learns what it is.

use replug_plugin_api::prelude::*;

struct Constructor;

impl Plugin for Constructor {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Constructor)
    }
}

/// Runs inside `dlopen`.
#[cfg(not(test))]
extern "C" fn abort() {
    std::process::abort()
}

// Not in this crate's own tests, which it would end too.
#[cfg(not(test))]
#[used]
// SAFETY: the section holds addresses of functions without arguments, and this
// is one.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = abort;

export!(Constructor, name = "constructor", version = "1.0.0");
