//! A name that hides what a result is: the vtable would have another type than
//! the plugin writes.

use replug_plugin_api::interface::interface;

type Result<T> = core::result::Result<Option<T>, replug_plugin_api::Error>;

#[interface(id = "bad.result", version = "1.0.0")]
pub trait Hidden {
    fn get(&self) -> Result<u8>;
}

fn main() {}
