//! A plugin could leave a pointer in what it can change while it is shared.

use abi_stable::std_types::RStr;
use replug_plugin_api::interface::interface;
use std::cell::Cell;

#[interface(id = "bad.cell", version = "1.0.0")]
pub trait Shared {
    fn put(&self, place: &Cell<u64>);
}

#[interface(id = "bad.mutable", version = "1.0.0")]
pub trait Mutable {
    fn put(&self, place: &mut RStr<'_>);
    fn put_all(&self, places: &mut [RStr<'_>]);
}

fn main() {}
