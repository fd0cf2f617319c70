//! What a plugin lends does not live for ever, by its own name or behind another.

use abi_stable::std_types::RStr;
use replug_plugin_api::interface::interface;

type Name = RStr<'static>;

#[interface(id = "bad.name", version = "1.0.0")]
pub trait Named {
    fn names(&self) -> &'static [u8];
}

#[interface(id = "bad.alias", version = "1.0.0")]
pub trait Aliased {
    fn name(&self) -> Name;
}

fn main() {}
